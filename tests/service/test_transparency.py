"""The public record is made of plan, ledger and releases alone, is signed, and holds or says what does not (R1)."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.access.roles import GET_RECORD
from hushmeter.api.transparency.v1 import transparency_pb2 as pb
from hushmeter.cli.app import run
from hushmeter.errors import LedgerBroken
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.approving import approve
from hushmeter.plan.reading import parse_recorded
from hushmeter.service.deployment.context import Context
from hushmeter.service.disclosure.public_record import signed_record
from hushmeter.signatures import SIGNING_KEY_NAME, public_key
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from hushmeter.transparency import html, markdown, signing
from hushmeter.transparency.record import Published, meaning, public_record
from hushmeter.transparency.signing import verify_record
from tests.examples import examples
from tests.service.deployment_by_hand import PLAN, H, Hand, opened, sealer_of
from tests.service.guarded_service import guarded

COUNTED = PLAN.replace("expected_units: 100}", "expected_units: 100, participants: true}")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> | [a](javascript:b) `c`"


def with_noise(context: Context) -> Context:
    """The same deployment, which converts with OpenDP."""
    return dataclasses.replace(context, mechanisms=OpenDPMechanisms())


def released(state_dir: Path, hours: int, value: int = 5, plan: str = PLAN) -> tuple[Context, FakeClock]:
    """A deployment with some released hours and a report in each."""
    clock = FakeClock(H)
    context = opened(state_dir, clock, plan)
    for hour in range(hours):
        hand = Hand(context)
        hand.decide("u")
        clock.set(H + hour * HOUR_MS + 40 * MINUTE_MS)
        hand.send("u", clock.now_ms(), value)
        hand.segments.retire()
        clock.set(H + (hour + 1) * HOUR_MS + 10 * MINUTE_MS)
        sealer_of(context).run_due()
    return with_noise(context), clock


def of(context: Context) -> dict[str, object]:
    """The record itself."""
    record: dict[str, object] = json.loads(signed_record(context))["record"]
    return record


def test_an_empty_deployment_has_a_record(tmp_path: Path) -> None:
    """What will be collected is told before anything was, and that nothing has been spent."""
    context, _ = released(tmp_path, 0)
    text = signed_record(context)
    record = of(context)
    assert [m["name"] for m in record["collected"]] == ["starts"]  # type: ignore[attr-defined]
    assert record["privacy"]["spent"] == []  # type: ignore[index]
    assert verify_record(text).entries == 0
    assert "Nothing has been released yet." in markdown.markdown_page(record)
    assert "Nothing has been released yet." in html.html_page(text)


def test_it_tells_what_the_ledger_says(tmp_path: Path) -> None:
    """Spent epsilon stays within the budget; every charged window is there, lost ones as lost."""
    context, clock = released(tmp_path, 3)
    clock.set(H + DAY_MS + HOUR_MS)
    sealer_of(context).run_due()
    record = json.loads(signed_record(context))["record"]
    (period,) = record["privacy"]["spent"]
    assert 0 < period["epsilon"] <= record["privacy"]["budget_of_a_period"]["epsilon"]
    windows = [(w["metric"], w["resolution"]) for w in record["privacy"]["windows"]]
    assert windows.count(("starts", "1h")) == 24
    assert windows.count(("starts", "1d")) == 1
    assert all(w["released"] for w in record["privacy"]["windows"])
    assert len(record["privacy"]["what_this_means"]) == len(record["privacy"]["cost_so_far"]) > 2


def test_what_another_deployment_costs_is_told(tmp_path: Path) -> None:
    """The record and its pages say that a second deployment has a budget of its own, and that costs of both add up (C3)."""
    context, _ = released(tmp_path, 0)
    record, said = of(context), "costs of both add up"
    assert said in " ".join(record["limits"])  # type: ignore[arg-type]
    assert said in markdown.markdown_page(record)
    assert said in html.html_page(signed_record(context))


def test_raw_data_has_no_part_in_it(tmp_path: Path) -> None:
    """Deployments with other rows, other units and equal releases differ in identities and hashes alone (R1)."""
    records = []
    for name, units in (("a", 0), ("b", 7)):
        clock = FakeClock(H)
        context = opened(tmp_path / name, clock)
        hand = Hand(context)
        for unit in range(units):
            hand.decide(str(unit))
            # Of the hour that is still open: nothing of it is released.
            clock.advance(MINUTE_MS)
            hand.send(str(unit), clock.now_ms())
        clock.set(H + 30 * MINUTE_MS)
        record = json.loads(signed_record(with_noise(context)))["record"]
        record.pop("deployment")
        records.append(record)
    assert records[0] == records[1]


def test_participation_is_a_released_estimate(tmp_path: Path) -> None:
    """Who takes part is told as the released estimate with its interval, and in no other way."""
    context, clock = released(tmp_path, 1, plan=COUNTED)
    assert not of(context)["participation"]
    clock.set(H + DAY_MS + HOUR_MS)
    sealer_of(dataclasses.replace(context, mechanisms=ExactMechanisms())).run_due()
    (estimate,) = of(context)["participation"]  # type: ignore[misc]
    assert (estimate["of"], estimate["resolution"], estimate["value"]) == ("tuning", "1d", 1.0)
    assert estimate["interval_95"][0] <= 1 <= estimate["interval_95"][1]
    assert "<figure>" in html.html_page(signed_record(context))


@examples(60)
@given(st.data())
def test_a_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever character is changed, and wherever, the record does not hold any more."""
    text = _kept(tmp_path_factory)
    key = bytes.fromhex(json.loads(text)["public_key"])
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    changed = text[:at] + other + text[at + 1 :]
    try:
        same = json.loads(changed) == json.loads(text)
    except ValueError:
        same = False
    if not same:
        with pytest.raises(LedgerBroken):
            verify_record(changed, key)


@pytest.mark.parametrize("field", ["public_key", "signature"])
def test_key_and_signature_are_written_in_one_way(tmp_path_factory: pytest.TempPathFactory, field: str) -> None:
    """The same bytes in capital letters, or with spaces between them, are not what was signed and published."""
    fields = json.loads(_kept(tmp_path_factory))
    key = bytes.fromhex(fields["public_key"])
    for other in (fields[field].upper(), " ".join(fields[field][i : i + 2] for i in range(0, len(fields[field]), 2))):
        with pytest.raises(LedgerBroken, match="its key and its signature"):
            verify_record(json.dumps({**fields, field: other}), key)


def test_nothing_stands_beside_what_is_signed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A field that no signature covers is not taken for a part of the record."""
    fields = json.loads(_kept(tmp_path_factory))
    with pytest.raises(LedgerBroken, match="more than a record"):
        verify_record(json.dumps({**fields, "remark": "no epsilon was spent"}), bytes.fromhex(fields["public_key"]))


@pytest.mark.parametrize(
    ("real", "doubled"),
    [
        ('{"public_key":', '{"public_key":"","public_key":'),
        ('"record":{', '"record":{},"record":{'),
        ('"as_of":', '"as_of":"2020-01-01T00:00:00Z","as_of":'),
    ],
)
def test_no_name_stands_twice(tmp_path_factory: pytest.TempPathFactory, real: str, doubled: str) -> None:
    """Readers differ in which of two values of one name they take: a text that has both is none that was signed."""
    text = _kept(tmp_path_factory)
    assert real in text
    with pytest.raises(LedgerBroken, match="damaged"):
        verify_record(text.replace(real, doubled, 1), bytes.fromhex(json.loads(text)["public_key"]))


_texts: list[str] = []


def _kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not _texts:
        _texts.append(signed_record(released(tmp_path_factory.mktemp("record"), 1)[0]))
    return _texts[0]


def test_history_cannot_be_rewritten(tmp_path: Path) -> None:
    """A record of before is the beginning of every later one; one of another history, or deployment, is not."""
    context, clock = released(tmp_path / "a", 1)
    before = signed_record(context)
    clock.set(H + 3 * HOUR_MS + 10 * MINUTE_MS)
    sealer_of(context).run_due()
    after = signed_record(context)
    assert verify_record(after, earlier=before).entries > verify_record(before).entries
    with pytest.raises(LedgerBroken, match="history was changed: ledger entry"):
        verify_record(before, earlier=after)
    other = signed_record(released(tmp_path / "b", 1)[0])
    with pytest.raises(LedgerBroken, match="signed with the key"):
        verify_record(after, earlier=other)
    key = context.keys.get(SIGNING_KEY_NAME)
    record = json.loads(after)["record"]
    entries = record["ledger"]["entries"]
    record["ledger"]["entries"] = [entries[0].replace("starts", "halts"), *entries[1:]]
    with pytest.raises(LedgerBroken, match="does not end with the hash"):
        verify_record(signing.SIGNED_RECORD.signed(record, key))
    with pytest.raises(LedgerBroken, match="is signed with the key"):
        verify_record(after, bytes(32))
    assert verify_record(after, public_key(key)).key == public_key(key)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"record": 1}', "<html></html>", "\ud800", '{"a":' * 9_000])
def test_what_is_no_record(text: str) -> None:
    """Anything else is refused in words."""
    with pytest.raises(LedgerBroken, match="no transparency record"):
        verify_record(text)


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.names: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes one."""
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))


def test_a_plan_cannot_put_code_into_a_page(tmp_path: Path) -> None:
    """Texts of a plan are texts: in HTML, in its embedded JSON, and in Markdown."""
    context, _ = released(tmp_path, 0)
    version = context.timeline.recorded()[0]
    plan = parse_recorded(version.plan_text)
    metric = dataclasses.replace(plan.metrics[0], description=HOSTILE, owner=HOSTILE, unit=HOSTILE)
    purpose = dataclasses.replace(plan.purposes[0], text=HOSTILE)
    plan = dataclasses.replace(plan, name=HOSTILE, metrics=(metric,), purposes=(purpose,))
    record = public_record(Published("d" * 32, [(version, plan)], ()), OpenDPMechanisms())
    text = signing.SIGNED_RECORD.signed(record, bytes(range(32)))
    page = html.html_page(text)
    tags = Tags()
    tags.feed(page)
    assert tags.scripts == ["application/json"]
    assert "img" not in tags.names
    assert not any(name.startswith("on") or name in {"src", "href"} for name in tags.attributes)
    assert verify_record(html.record_in(page)).deployment_id == "d" * 32
    written = markdown.markdown_page(record)
    assert "<script" not in written.replace("\\<", "")
    assert "](" not in written.replace("\\]", "")


def test_meaning() -> None:
    """A belief of one half moves by the odds, rounded up."""
    assert "at most 50 % sure" in meaning(0.0, "a week", "device")
    assert "at most 74 % sure" in meaning(1.0, "a week", "device")
    assert "at most 98.21 % sure" in meaning(4.0, "a week", "device")
    assert "no useful bound" in meaning(50.0, "a year", "device")


def test_anybody_may_ask(tmp_path: Path) -> None:
    """Where every other call needs a credential, the record needs none; all formats come over the wire, in parts."""
    with guarded(tmp_path / "state") as service:
        texts = []
        for written_as in (pb.RECORD_FORMAT_UNSPECIFIED, pb.RECORD_FORMAT_MARKDOWN, pb.RECORD_FORMAT_HTML):
            request = pb.GetRecordRequest(format=written_as).SerializeToString()
            parts = [pb.GetRecordResponse.FromString(part).part for part in service.call(GET_RECORD, None, request)]
            texts.append(b"".join(parts).decode())
        assert verify_record(texts[0]).deployment_id == service.context.deployment.deployment_id
        assert texts[1].startswith("# What ")
        assert html.record_in(texts[2]) == html.record_in(texts[0]).strip()


def test_approvals_that_come_later_are_told(tmp_path: Path) -> None:
    """A running service tells who has approved a version meanwhile; what nothing changed is told as it was."""
    with guarded(tmp_path / "state") as service:

        def told() -> tuple[str, list[str]]:
            parts = service.call(GET_RECORD, None, pb.GetRecordRequest().SerializeToString())
            text = b"".join(pb.GetRecordResponse.FromString(part).part for part in parts).decode()
            (version,) = json.loads(text)["record"]["plan_versions"]
            return text, [a["name"] for a in version["approvals"]]

        first = told()
        assert first[1] == []
        plan = service.context.plan
        approval = approve(bytes(32), "ada", plan.name, plan.version, plan.plan_hash)
        service.context.store.approve_plan(plan.version, [approval])
        second = told()
        assert second[1] == ["ada"]
        assert verify_record(second[0]).deployment_id == service.context.deployment.deployment_id
        assert told() == second


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show`, `key` and `verify` work together, on JSON and on HTML; a changed file has exit status 1."""
    context, _ = released(tmp_path / "state", 1)
    context.store.close()
    state = ["--state-dir", str(tmp_path / "state")]
    assert run(["transparency", "key", *state]) == 0
    key = capsys.readouterr().out.strip()
    for name in ("json", "html"):
        file = tmp_path / f"record.{name}"
        assert run(["transparency", "show", *state, "--format", name, "--out", str(file)]) == 0
        assert run(["transparency", "verify", str(file), "--public-key", key]) == 0
        assert "signature and chain of" in capsys.readouterr().out
        file.write_text(file.read_text().replace("Tune models", "Sell models"))
        assert run(["transparency", "verify", str(file)]) == 1
        assert "does not hold" in capsys.readouterr().err
    assert run(["transparency", "show", *state]) == 0
    assert "## What this means for you" in capsys.readouterr().out
    assert run(["transparency", "verify", str(tmp_path / "nowhere")]) != 0
    assert run(["transparency", "verify", str(tmp_path / "record.json"), "--public-key", "12"]) != 0


REGISTRY = {
    "basic": {
        "name",
        "data_curators",
        "intended_use",
        "data_product_type",
        "data_product_region",
        "description",
        "publication_date",
        "data_product_sector",
    },
    "dp_variant": {"variant_name", "data_domain", "unprotected_quantities"},
    "privacy_loss": {"privacy_unit", "privacy_unit_details", "privacy_parameters", "privacy_parameters_details"},
    "deployment_model": {
        "model_name",
        "model_name_details",
        "actors",
        "release_type",
        "release_type_details",
        "data_source_type",
        "data_source_type_details",
        "access_type",
        "access_type_details",
    },
    "accounting": {"post_processing", "composition"},
    "implementation": {"preprocessing_and_hyperparameter_tuning", "mechanisms", "justification"},
}
"""The fields of a deployment that the registry's schema of July 2026 admits, but for `administrative`."""


@pytest.mark.parametrize("pure", [False, True])
def test_the_registrys_fields(tmp_path: Path, pure: bool) -> None:
    """The record says of itself what OpenDP's registry asks for, in its fields and words, and nothing that it refuses."""
    plan = PLAN.replace("epsilon: 4,", "epsilon: 4, currency: pure,") if pure else PLAN
    context, _ = released(tmp_path, 0, plan=plan)
    assert "publication_date" not in of(context)["registry_entry"]["basic"]  # type: ignore[index]
    context, _ = released(tmp_path, 1, plan=plan)
    entry: dict[str, dict[str, object]] = of(context)["registry_entry"]  # type: ignore[assignment]
    assert set(entry) == set(REGISTRY)
    for part, fields in entry.items():
        assert set(fields) <= REGISTRY[part]
        assert all(fields.values())
    assert entry["basic"]["publication_date"] == "2026-03-02"
    assert entry["dp_variant"]["variant_name"] == ("Pure DP" if pure else "Zero-concentrated DP")
    stated: dict[str, float] = entry["privacy_loss"]["privacy_parameters"]  # type: ignore[assignment]
    assert set(stated) == ({"epsilon"} if pure else {"epsilon", "delta", "rho"})
    assert stated["epsilon"] == 4
    assert "any year: epsilon" in str(entry["privacy_loss"]["privacy_parameters_details"])
    words = [("model_name", "Central"), ("release_type", "Many releases"), ("data_source_type", "Dynamic")]
    assert [(name, entry["deployment_model"][name]) for name, _ in words] == words
