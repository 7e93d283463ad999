"""The record as a page to read, in Markdown: plain words first, tables after."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hushmeter.transparency.words import people

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~])")


def escaped(text: object) -> str:
    """Text that means itself: nothing in a plan can become a link, a tag or a table."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def markdown_page(record: dict[str, Any]) -> str:
    """The whole record but the ledger's entries, which the JSON has."""
    return "\n".join(_lines(record)) + "\n"


def _lines(r: dict[str, Any]) -> Iterator[str]:
    plan, privacy, raw = r["plan"], r["privacy"], r["raw_data"]
    yield f"# What {escaped(plan['name'])} collects, and what it costs"
    yield ""
    yield f"Plan version {plan['version']}, as of {r['as_of']}. Deployment `{r['deployment']}`."
    yield ""
    yield "## What this means for you"
    yield ""
    yield from (f"- {escaped(line)}" for line in privacy["what_this_means"] or ["Nothing has been released yet."])
    budget = privacy["budget_of_a_period"]
    yield (
        f"- Promised: at most epsilon {budget['epsilon']:.3g}, delta {budget['delta']:.3g} in every {privacy['period']}, "
        f"for {escaped(privacy['neighbours'])}."
    )
    yield (
        f"- Raw rows live {raw['longest_life']} at most, encrypted, unless a window over them waits for its operator; "
        "afterwards their keys are destroyed. The name under "
        f"which they are kept changes every {raw['pseudonyms_change_every']}."
    )
    yield ""
    yield "## For which purposes"
    yield ""
    yield from (f"- **{escaped(p['name'])}**: {escaped(p['text'])}" for p in r["purposes"])
    yield ""
    yield "## What is collected"
    yield ""
    yield from _table(
        ("metric", "what", "category", "for", "split by", "owner", "until"),
        (
            (
                m["name"],
                m["description"],
                m["category"],
                ", ".join(m["purposes"]),
                ", ".join(d["name"] for d in m["dimensions"]) or "nothing",
                m["owner"],
                m["expires"] + (" (expired)" if m["expired"] else ""),
            )
            for m in r["collected"]
        ),
    )
    yield "## What you can do"
    yield ""
    yield from (f"- {escaped(choice)}" for choice in r["your_choices"])
    yield ""
    yield from _costs(r)
    yield "## How the plan has changed"
    yield ""
    for version in r["plan_versions"]:
        approved = ", ".join(escaped(a["name"]) for a in version["approvals"]) or "nobody by signature"
        yield f"- Version {version['version']}, in force from {version['in_force_from']}, approved by {approved}"
        yield from (f"  - {escaped(c['where'])}: {escaped(c['what'])}" for c in version["changes"])
    if r["restores"]:
        yield f"- The deployment was taken up from a backup {len(r['restores'])} times."
    yield ""
    yield "## What is not promised"
    yield ""
    yield from (f"- {escaped(limit)}" for limit in r["limits"])


def _costs(r: dict[str, Any]) -> Iterator[str]:
    privacy = r["privacy"]
    yield "## What it has cost"
    yield ""
    yield from _table(
        ("span", "epsilon at most", "delta at most"),
        ((c["span"], f"{c['epsilon']:.3g}", f"{c['delta']:.3g}") for c in privacy["cost_so_far"]),
    )
    yield from _table(
        ("period from", "epsilon spent", "delta spent"),
        ((p["from"], f"{p['epsilon']:.3g}", f"{p['delta']:.3g}") for p in privacy["spent"]),
    )
    released = sum(w["released"] for w in privacy["windows"])
    lost = len(privacy["windows"]) - released
    yield f"{released} windows of a metric were released, {lost} were lost and charged all the same."
    yield ""
    if r["ledger"]["withheld"]:
        yield escaped(r["ledger"]["withheld"])
        yield ""
    yield "## Who takes part"
    yield ""
    yield from _table(
        ("purpose", "window until", "took part, with 95 % interval"),
        ((e["of"], e["to"], people(e)) for e in r["participation"][-60:]),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    found = list(rows)
    if not found:
        yield "Nothing yet."
    else:
        yield f"| {' | '.join(head)} |"
        yield f"|{' --- |' * len(head)}"
        yield from (f"| {' | '.join(map(escaped, row))} |" for row in found)
    yield ""
