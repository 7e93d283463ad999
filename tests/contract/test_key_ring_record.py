"""What the record of a ring in a directory promises, and another master key for all that the ring holds."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from hushmeter.errors import Failure, KeyUnavailable, StateConflict, StorageFull
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.ring import ClaimState, DecisionMark, decode_record, encode_record
from hushmeter.model.time import Window
from hushmeter.storage.keys import files as keys_module
from hushmeter.storage.keys import ring_record as record_module
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.testing.contracts.key_ring import FIRST_RECORD, KEY_NAMES, SECOND_RECORD, count_up
from tests.contract.ring_files import MASTER, OTHER


def _open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_reader_sees_each_change_of_the_record_and_keeps_one_file_open(directory):
    """Whether the file is another one, the one of before put back, written to in its place, or gone."""
    ring, other = DirectoryKeyRing.open(directory, MASTER), DirectoryKeyRing.open(directory, MASTER)
    ring.swap(None, FIRST_RECORD)
    assert ring.record() == other.record() == FIRST_RECORD
    path, open_files = directory / "ledger", _open_files()
    kept = path.read_bytes()
    for _ in range(50):
        ring.swap(FIRST_RECORD, SECOND_RECORD)
        assert other.record() == SECOND_RECORD
        ring.swap(SECOND_RECORD, FIRST_RECORD)
        assert other.record() == FIRST_RECORD
    assert _open_files() == open_files
    ring.swap(FIRST_RECORD, SECOND_RECORD)
    assert other.record() == SECOND_RECORD
    path.write_bytes(kept)
    assert other.record() == FIRST_RECORD
    path.write_bytes(kept[:-1])
    with pytest.raises(KeyUnavailable, match="is damaged"):
        other.record()
    path.unlink()
    assert other.record() is None


def _count_in_process(directory):
    count_up(DirectoryKeyRing(directory, MASTER), 10)


def test_no_step_is_lost_among_processes(directory):
    """Likewise, where each process has opened the ring itself."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.swap(None, replace(FIRST_RECORD, head=replace(FIRST_RECORD.head, sequence=0)))
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        pool.map(_count_in_process, [directory] * 8, chunksize=1)
    assert ring.record().head.sequence == 80


def test_a_record_is_durable_before_it_is_seen(directory, monkeypatch):
    """Its bytes are synced before the name changes, and the name before `swap` returns; a failure leaves one of both."""
    ring, done = DirectoryKeyRing.open(directory, MASTER), []
    ring.swap(None, FIRST_RECORD)
    honest = {name: getattr(record_module, name) for name in ("write_durably", "sync_directory")}
    for name, call in honest.items():
        monkeypatch.setattr(record_module, name, lambda *a, n=name, c=call: (done.append((n, ring.record())), c(*a)))
    ring.swap(FIRST_RECORD, SECOND_RECORD)
    assert done == [("write_durably", FIRST_RECORD), ("sync_directory", SECOND_RECORD)]
    for name, call in honest.items():

        def refused(*_):
            raise OSError(28, "no space")

        monkeypatch.setattr(record_module, name, refused)
        before = ring.record()
        with pytest.raises(StorageFull, match="writing the record"):
            ring.swap(before, FIRST_RECORD)
        assert ring.record() in (before, FIRST_RECORD)
        monkeypatch.setattr(record_module, name, call)
    assert [p.name for p in directory.glob("ledger*")] in (["ledger", "ledger.lock"], ["ledger.lock", "ledger"])


def test_a_record_survives_the_process_and_a_new_master_key(directory):
    """It is read by whoever opens the ring; one that was changed, at any byte, is not believed, and told by name."""
    DirectoryKeyRing.open(directory, MASTER).swap(None, SECOND_RECORD)
    ring = DirectoryKeyRing.open(directory, MASTER)
    assert ring.record() == SECOND_RECORD
    ring.rewrap(OTHER)
    assert DirectoryKeyRing.open(directory, OTHER).record() == SECOND_RECORD
    content = (directory / "ledger").read_bytes()
    for damaged in (content[:-1], b"", content[:5], content[:20] + bytes([content[20] ^ 1]) + content[21:]):
        (directory / "ledger").write_bytes(damaged)
        with pytest.raises(KeyUnavailable, match="ledger is damaged; put the whole key directory back"):
            DirectoryKeyRing.open(directory, OTHER).record()
        with pytest.raises(KeyUnavailable, match="is damaged"):
            DirectoryKeyRing.open(directory, OTHER).swap(SECOND_RECORD, FIRST_RECORD)


def test_a_mark_of_before_is_a_record(directory):
    """A ring that an earlier hushmeter made said how far the ledger had come; that is what its record begins with."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    mark = b'{"deployment_id": "%s", "sequence": 1, "entry_hash": "%s"}' % (b"a" * 32, bytes(32).hex().encode())
    (directory / "ledger").write_bytes(ring._wrap("ledger", mark))
    assert ring.record() == FIRST_RECORD
    ring.swap(FIRST_RECORD, SECOND_RECORD)
    assert ring.record() == SECOND_RECORD


def test_a_record_is_its_bytes():
    """What is encoded comes back whole; equal records have equal bytes; anything else is no record."""
    for record in (
        FIRST_RECORD,
        SECOND_RECORD,
        replace(SECOND_RECORD, claim=replace(SECOND_RECORD.claim, state=ClaimState.LOST, publication="")),
    ):
        assert decode_record(encode_record(record)) == record
        assert encode_record(decode_record(encode_record(record))) == encode_record(record)
    for content in (b"", b"[]", b"{}", b"\xff", encode_record(SECOND_RECORD)[:-1]):
        with pytest.raises(ValueError, match=r"."):
            decode_record(content)


def test_what_was_claimed_and_charged_never_falls():
    """Neither by a claim of another window nor by a restore; a claim is ended by its owner alone."""
    loss, window = PrivacyLoss(Fraction(1, 2)), Window("1h", 7_200_000, 10_800_000)
    claimed = FIRST_RECORD.claimed(window, "o", 0, loss)
    with pytest.raises(StateConflict, match="is claimed, and ends before another one"):
        claimed.claimed(Window("1d", 0, 86_400_000), "p", 0, loss)
    for step in (
        lambda r: r.drawn("p", "ab", FIRST_RECORD.head),
        lambda r: r.lost("p", FIRST_RECORD.head),
        lambda r: r.ended("p"),
    ):
        with pytest.raises(StateConflict, match="no longer ours"):
            step(claimed)
    ended = claimed.lost("o", SECOND_RECORD.head).ended("o")
    assert (ended.head, ended.newest, ended.charged) == (SECOND_RECORD.head, {"1h": 10_800_000}, {0: loss})
    for earlier in (window, Window("1h", 0, 3_600_000)):
        with pytest.raises(StateConflict, match="has been claimed before"):
            ended.claimed(earlier, "o", 0, loss)
        assert ended.losing(earlier, "o", 0, PrivacyLoss(), FIRST_RECORD.head).newest == ended.newest
    restored = ended.restored(FIRST_RECORD.head, DecisionMark(), {0: PrivacyLoss(Fraction(1, 4))})
    assert (restored.newest, restored.charged, restored.head) == (ended.newest, ended.charged, FIRST_RECORD.head)


def wrapped_files(directory):
    """What every key is wrapped as, by file."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.stat().st_size}


def test_another_master_key_opens_the_same_keys(directory):
    """After `rewrap` every key is as it was, the old master key opens nothing, and destroyed keys stay destroyed."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    keys = {name: ring.get_or_create(name) for name in KEY_NAMES}
    ring.get_or_create("data/0")
    ring.destroy("data/0")
    before = wrapped_files(directory)
    assert ring.rewrap(OTHER) == len(KEY_NAMES) + 1
    after = wrapped_files(directory)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    other = DirectoryKeyRing.open(directory, OTHER)
    assert {name: other.get(name) for name in KEY_NAMES} == keys
    with pytest.raises(KeyUnavailable, match="destroyed"):
        other.get("data/0")
    with pytest.raises(KeyUnavailable, match="the master key is not the one"):
        DirectoryKeyRing.open(directory, MASTER)
    assert ring.rewrap(OTHER) == 0


@pytest.mark.parametrize("steps", range(4))
def test_an_interrupted_rotation_is_finished_by_the_same_call(directory, monkeypatch, steps):
    """Wherever it stops, calling again with the same two keys wraps what is left, and no key is lost."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    keys = {name: ring.get_or_create(name) for name in KEY_NAMES}
    honest, left = keys_module.put_in_place, [steps]

    def failing(new, path):
        if not left[0]:
            raise OSError(5, "the disk refused")
        left[0] -= 1
        honest(new, path)

    monkeypatch.setattr(keys_module, "put_in_place", failing)
    with pytest.raises(Failure, match="wrapping key"):
        ring.rewrap(OTHER)
    monkeypatch.setattr(keys_module, "put_in_place", honest)
    with pytest.raises(KeyUnavailable, match="the master key is not the one"):
        DirectoryKeyRing.open(directory, bytes(32))
    assert DirectoryKeyRing.open(directory, MASTER).rewrap(OTHER) == len(KEY_NAMES) + 1 - steps
    other = DirectoryKeyRing.open(directory, OTHER)
    assert {name: other.get(name) for name in KEY_NAMES} == keys


def test_a_foreign_master_key_rotates_nothing(directory):
    """Whoever does not have the ring's master key cannot put another one in its place."""
    before = wrapped_files(directory)
    with pytest.raises(KeyUnavailable, match="the master key is not the one"):
        DirectoryKeyRing(directory, bytes(32)).rewrap(OTHER)
    assert wrapped_files(directory) == before
