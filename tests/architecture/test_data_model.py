"""docs/data_model.md names columns, fields and files: each of them is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from google.protobuf.message import Message

from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.release.v1 import release_pb2
from hushmeter.api.report.v1 import report_pb2, view_pb2
from hushmeter.ledger.checkpoint import is_checkpoint
from hushmeter.ledger.entries import checkpoint_after
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.ring import encode_record
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.pipeline.claims import ring_record
from hushmeter.storage.state.schema import METADATA
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, Hand, opened, sealer_of

PAGE = (Path(__file__).parents[2] / "docs" / "data_model.md").read_text(encoding="utf-8")
API = {
    "consent": consent_pb2,
    "query": query_pb2,
    "release": release_pb2,
    "report": report_pb2,
}
OF_BEFORE = {"values_sha256"}
"""Fields that stand in entries of before salts alone."""


def rows_of(heading: str) -> list[list[str]]:
    """The cells of each row of the tables below a heading, up to the next one."""
    section = PAGE.partition(f"{heading}\n")[2]
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0].startswith("`")]


def names_in(cell: str) -> list[str]:
    """What stands in code type."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("table", sorted(METADATA.tables))
def test_columns_are_the_stores(table: str) -> None:
    """What a row of the page names of a table are columns of it; each key is among them."""
    (row,) = [row for row in rows_of("## State") if row[0] == f"`{table}`"]
    columns = {column.name for column in METADATA.tables[table].columns}
    said = [*names_in(row[1]), *(n for n in names_in(row[2]) if row[2].startswith("`"))]
    # Where a cell names what a column may hold, that is no name of a column.
    assert {name for name in said if name not in {"backup.md", "erasure"}} <= columns


def test_releases_have_the_columns_that_the_page_says() -> None:
    """The page's list of a release's columns is all of them, but for its number."""
    said = PAGE.partition("### Releases\n")[2].partition("| column |")[0]
    columns = {column.name for column in METADATA.tables["releases"].columns}
    assert {name for name in names_in(said) if name.islower() and name.isidentifier()} == columns - {"number"}


def test_measurements_and_mechanisms_are_the_codes() -> None:
    """The page names each measurement and each mechanism, and no other."""
    measurements = PAGE.partition("| one a measurement: ")[2].partition("|")[0]
    assert names_in(measurements) == [name.value for name in MeasurementName]
    mechanisms = PAGE.partition("what the mechanism did: `mechanism`")[2].partition(")")[0]
    assert names_in(mechanisms) == [mechanism.value for mechanism in Mechanism]


def messages(cell: str) -> list[type[Message]]:
    """The messages that a cell names, such as `consent.v1.Decision`; later ones of a cell are of the same package."""
    found, package = [], ""
    for name in names_in(cell):
        package = name.split(".")[0] if "." in name else package
        module, message = API[package], name.rpartition(".")[2]
        found.append(getattr(view_pb2 if message.endswith("View") and package == "report" else module, message))
    return found


@pytest.mark.parametrize("row", rows_of("## The wire"), ids=lambda row: row[0])
def test_fields_are_the_wires(row: list[str]) -> None:
    """What a row names of messages are fields of them, or of a message that they hold."""
    fields = set()
    for message in messages(row[0]):
        for field in message.DESCRIPTOR.fields:
            fields |= {field.name, *(f.name for f in (field.message_type.fields if field.message_type else ()))}
    assert set(names_in(row[1])) <= fields


def test_entries_and_the_record_hold_what_the_page_says(tmp_path: Path) -> None:
    """The fields of a ledger entry, of a checkpoint and of the ring's record are those of the page, all of them."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    hand = Hand(context)
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    hand.segments.retire()
    sealer_of(context).run_due()
    entries = list(context.store.ledger())
    fields = [name for row in rows_of("### Ledger") for name in names_in(row[0])]
    checkpoint = ["head", "releases", "spent", "charged_until_ms", "released_from_ms"]
    assert {*entries[0].fields} | OF_BEFORE == {*fields} - {*checkpoint, "through"}
    added = checkpoint_after(context.deployment.deployment_id, entries, bytes(16), "")
    assert added is not None
    assert is_checkpoint(added)
    assert {*json.loads(added.content)["checkpoint"]} == {"deployment", "through", *checkpoint}
    record = json.loads(encode_record(ring_record(context.keys)))
    assert {*record} == {name for row in rows_of("### The record") for name in names_in(row[0])}


def test_keys_lie_where_the_page_says(tmp_path: Path) -> None:
    """Every file of a new deployment's key directory is named."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    hand = Hand(context)
    hand.decide("a")
    clock.set(H + 30 * MINUTE_MS)
    assert len(hand.send("a", clock.now_ms()).admitted) == 1
    said = names_in(PAGE.partition("## Keys\n")[2].partition("## Names")[0])
    found = {path.relative_to(tmp_path / "state-keys").as_posix() for path in (tmp_path / "state-keys").rglob("*.*")}
    assert {
        re.sub(r"data/\d+", "data/<storage window>", re.sub(r"period/\d+", "period/<period>", name)) for name in found
    } <= {*said}
