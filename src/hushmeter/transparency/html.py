"""The record as one HTML file that needs nothing else: no script runs, nothing is fetched, every text is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from hushmeter.transparency.words import people

_RECORD = re.compile(r'<script type="application/json" id="record">(.*?)</script>', re.DOTALL)
_WIDTH, _HEIGHT, _FOOT = 480, 170, 26
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--card:#f6f8fa;--line:#d0d7de;--bar:#3b6ea5;
--over:#b35900}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4ae;--paper:#0d1117;--card:#161b22;--line:#30363d;
--bar:#6ca4dd;--over:#e3954a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:56rem;padding:1rem;font:1rem/1.55 system-ui,sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.2rem}
.soft{color:var(--soft)}code{font-size:.85em}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;margin:.8rem 0}
.card p{margin:.3rem 0}
.tags span{display:inline-block;border:1px solid var(--line);border-radius:1rem;padding:0 .6rem;
margin:.1rem .2rem .1rem 0;font-size:.85rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:normal}
svg{width:100%;max-width:40rem;height:auto;display:block}svg text{fill:var(--soft);font:14px system-ui,sans-serif}
figure{margin:1rem 0}figcaption{color:var(--soft);font-size:.9rem}
summary{cursor:pointer;padding:.4rem 0}li{margin:.3rem 0}
"""


def html_page(signed: str) -> str:
    """The whole record as a page.

    Args:
        signed: see `hushmeter.transparency.signing`; the page carries it, so that it can be verified as the JSON can.
    """
    record = json.loads(signed)["record"]
    title = f"What {record['plan']['name']} collects"
    # "<" cannot stand in a script element; in JSON it can be written otherwise.
    inside = signed.replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(_body(record, json.loads(signed)["public_key"]))
        + f'\n<script type="application/json" id="record">{inside}</script>\n</body></html>\n'
    )


def record_in(text: str) -> str:
    """The signed record that a page carries; the text itself where it is no page."""
    found = _RECORD.search(text)
    return found[1] if found else text


def _body(r: dict[str, Any], key: str) -> Iterator[str]:
    plan, privacy, raw = r["plan"], r["privacy"], r["raw_data"]
    budget = privacy["budget_of_a_period"]
    yield f"<header><h1>What {escape(plan['name'])} collects, and what it costs you</h1>"
    yield f'<p class="soft">Plan version {plan["version"]}, as of {escape(r["as_of"])}</p></header><main>'
    yield "<h2>What this means for you</h2>"
    yield _list(privacy["what_this_means"] or ["Nothing has been released yet."])
    yield (
        f'<div class="card"><p>Promised: at most <b>epsilon {budget["epsilon"]:.3g}</b>, delta {budget["delta"]:.3g} in '
        f"every {escape(privacy['period'])}, for {escape(privacy['neighbours'])}.</p>"
        f"<p>Raw rows live <b>{escape(raw['longest_life'])}</b> at most, encrypted, unless a window over them waits for "
        "its operator; afterwards their keys are destroyed. "
        f"The name under which they are kept changes every {escape(raw['pseudonyms_change_every'])}.</p></div>"
    )
    yield _bars("Epsilon spent in each period", [(p["from"], p["epsilon"]) for p in privacy["spent"]], budget["epsilon"])
    yield "<h2>For which purposes</h2>"
    yield from (
        f'<div class="card"><p><b>{escape(p["name"])}</b></p><p>{escape(p["text"])}</p></div>' for p in r["purposes"]
    )
    yield "<h2>What is collected</h2>"
    yield from map(_metric, r["collected"])
    yield "<h2>What you can do</h2>" + _list(r["your_choices"])
    yield "<h2>Who takes part</h2>"
    yield from _participation(r["participation"])
    yield "<h2>What it has cost so far</h2>"
    costs = ((c["span"], f"{c['epsilon']:.3g}", f"{c['delta']:.3g}") for c in privacy["cost_so_far"])
    yield _table(("span", "epsilon at most", "delta at most"), costs)
    windows = privacy["windows"]
    lost = sum(not w["released"] for w in windows)
    yield f"<p>{len(windows) - lost:,} windows of a metric were released, {lost:,} were lost and charged all the same.</p>"
    if r["ledger"]["withheld"]:
        yield f"<p>{escape(r['ledger']['withheld'])}</p>"
    yield "<details><summary>The newest hundred of them</summary>"
    newest = (
        (w["metric"], w["resolution"], w["to"], "released" if w["released"] else "lost", w["measurements"])
        for w in windows[:-101:-1]
    )
    yield _table(("metric", "every", "until", "was", "numbers"), newest) + "</details>"
    yield "<h2>How the plan has changed</h2>"
    yield from map(_version, r["plan_versions"])
    if r["restores"]:
        yield f"<p>The deployment was taken up from a backup {len(r['restores'])} times.</p>"
    yield "<h2>What is not promised</h2>" + _list(r["limits"])
    yield (
        "<h2>Check it yourself</h2><p>This page carries the whole record, signed. <code>hushmeter transparency verify FILE "
        "--public-key KEY</code> checks it; KEY is what the operator has published elsewhere.</p>"
        f'<p class="soft">Signed with <code>{escape(key)}</code><br>'
        f"Ledger head <code>{escape(r['ledger']['head'])}</code><br>"
        f"Deployment <code>{escape(r['deployment'])}</code></p></main>"
    )


def _metric(m: dict[str, Any]) -> str:
    tags = [m["category"], *(f"for {p}" for p in m["purposes"]), *(f"by {d['name']}" for d in m["dimensions"])]
    ends = "expired" if m["expired"] else f"until {m['expires'][:10]}"
    return (
        f'<div class="card"><p><b>{escape(m["name"])}</b> <span class="soft">{escape(m["kind"])}, {escape(ends)}</span></p>'
        f"<p>{escape(m['description'])}</p>"
        f'<p class="tags">{"".join(f"<span>{escape(tag)}</span>" for tag in tags)}</p>'
        f'<p class="soft">Released: {escape(", ".join(m["statistics"]))}; every {escape(", ".join(m["released_every"]))}. '
        f"Owner: {escape(m['owner'])}</p></div>"
    )


def _version(version: dict[str, Any]) -> str:
    approved = ", ".join(a["name"] for a in version["approvals"]) or "nobody by signature"
    changes = [f"{c['where']}: {c['what']}" for c in version["changes"]]
    head = f"Version {version['version']}, in force from {version['in_force_from']}, approved by {approved}"
    return f'<div class="card"><p><b>{escape(head)}</b></p>{_list(changes) if changes else ""}</div>'


def _participation(estimates: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not estimates:
        yield "<p>No such statistic has been released yet.</p>"
    for purpose in dict.fromkeys(e["of"] for e in estimates):
        yield _curve(purpose, [e for e in estimates if e["of"] == purpose][-120:])


def _bars(title: str, values: Sequence[tuple[str, float]], most: float) -> str:
    """A bar for each value, and a line for the budget."""
    if not values:
        return ""
    shown = values[-60:]
    top = max(most, *(v for _, v in shown)) * 1.1
    width = _WIDTH / len(shown)
    bars = "".join(
        f'<rect x="{i * width + 1:.1f}" y="{_y(v, 0, top):.1f}" width="{max(1.0, width - 2):.1f}" '
        f'height="{_HEIGHT - _y(v, 0, top):.1f}" fill="var(--bar)"><title>{escape(name)}: {v:.3g}</title></rect>'
        for i, (name, v) in enumerate(shown)
    )
    line = _y(most, 0, top)
    drawn = (
        f'{bars}<line x1="0" x2="{_WIDTH}" y1="{line:.1f}" y2="{line:.1f}" stroke="var(--over)" stroke-dasharray="6 4"/>'
        f'<text x="4" y="{line - 6:.1f}">budget {most:.3g}</text>{_ends(shown[0][0], shown[-1][0])}'
    )
    return _figure(title, f"{title}; the newest is {shown[-1][1]:.3g} of {most:.3g}", drawn)


def _curve(name: str, estimates: Sequence[dict[str, Any]]) -> str:
    """Estimates over time, each with its 95 % interval."""
    low = min(0.0, *(e["interval_95"][0] for e in estimates))
    high = max(e["interval_95"][1] for e in estimates) * 1.05 or 1.0
    step = _WIDTH / max(1, len(estimates))
    marks = "".join(
        f'<line x1="{(i + 0.5) * step:.1f}" x2="{(i + 0.5) * step:.1f}" y1="{_y(e["interval_95"][0], low, high):.1f}" '
        f'y2="{_y(e["interval_95"][1], low, high):.1f}" stroke="var(--line)" stroke-width="{min(8.0, step * 0.7):.1f}"/>'
        f'<circle cx="{(i + 0.5) * step:.1f}" cy="{_y(e["value"], low, high):.1f}" r="{min(4.0, step * 0.4 + 1):.1f}" '
        f'fill="var(--bar)"><title>{escape(e["to"])}: {e["value"]:,.0f}</title></circle>'
        for i, e in enumerate(estimates)
    )
    last = estimates[-1]
    said = people(last)
    ends = _ends(estimates[0]["to"], last["to"])
    return _figure(f"Took part, allowing {name}: {said}", f"{name}, newest: {said}", marks + ends)


def _ends(first: str, last: str) -> str:
    y = _HEIGHT + _FOOT - 6
    return (
        f'<text x="2" y="{y}">{escape(first[:10])}</text>'
        f'<text x="{_WIDTH - 2}" y="{y}" text-anchor="end">{escape(last[:10])}</text>'
    )


def _figure(caption: str, alternative: str, drawn: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="{escape(alternative)}">{drawn}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT * (1 - (value - low) / (high - low))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
        if body
        else "<p>Nothing yet.</p>"
    )


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
