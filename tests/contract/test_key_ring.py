"""What every key ring promises, and what the one in a directory promises beyond that."""

import multiprocessing
import os
import stat
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from hushmeter.errors import ConfigError, Failure, InvariantError, KeyUnavailable, StateConflict, StorageFull
from hushmeter.model.ledger import LedgerMark, PrivacyLoss
from hushmeter.model.ring import (
    Claim,
    ClaimState,
    DecisionMark,
    PlanMark,
    RingRecord,
    Serving,
    decode_record,
    encode_record,
)
from hushmeter.model.time import Window
from hushmeter.rehearsal.patience import PATIENCE_S
from hushmeter.storage.keys import files as keys_module
from hushmeter.storage.keys import ring_record as record_module
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.storage.keys.master_key import MASTER_KEY_VARIABLE, create_master_key, load_master_key
from hushmeter.testing.memory import MemoryKeyRing

MASTER = bytes(range(32))
NAMES = ["deployment", "unit-tokens", "signing", "data/3600000", "period/0"]


@pytest.fixture(params=["directory", "memory"])
def ring(request, tmp_path):
    """A new key ring."""
    return MemoryKeyRing() if request.param == "memory" else DirectoryKeyRing.open(tmp_path / "keys", MASTER)


@pytest.fixture
def directory(tmp_path):
    """Where a founded key ring lies."""
    DirectoryKeyRing.open(tmp_path / "keys", MASTER)
    return tmp_path / "keys"


# Every key ring.


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_made_once_and_stays(ring, name):
    """The second call returns the key that the first one made, and so does `get`."""
    key = ring.get_or_create(name)
    assert len(key) == 32
    assert ring.get_or_create(name) == key == ring.get(name)


def test_every_name_has_a_key_of_its_own(ring):
    """No two names share a key, also where one name begins with the other."""
    names = [*NAMES, "data/0", "data/36000000", "period/3600000"]
    assert len({ring.get_or_create(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_was_never_made_is_unavailable(ring, name):
    """`get` makes nothing."""
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match="there is no key"):
            ring.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_destroyed_key_never_comes_back(ring, name):
    """Neither `get` nor `get_or_create` yields a key once it is destroyed, and destroying it again changes nothing."""
    ring.get_or_create(name)
    for _ in range(2):
        ring.destroy(name)
        for call in (ring.get, ring.get_or_create):
            with pytest.raises(KeyUnavailable, match="destroyed"):
                call(name)


def test_a_key_destroyed_before_it_was_made_is_never_made(ring):
    """A scrubbed window that received nothing cannot get a key any more."""
    ring.destroy("data/0")
    with pytest.raises(KeyUnavailable, match="destroyed"):
        ring.get_or_create("data/0")


def test_destroying_one_key_leaves_the_others(ring):
    """Only the named key dies, also where another name begins with it."""
    others = ["deployment", "data/10", "data/11", "period/1"]
    before = [ring.get_or_create(name) for name in others]
    ring.get_or_create("data/1")
    ring.destroy("data/1")
    assert [ring.get(name) for name in others] == before


# The key ring in a directory.


def test_periods_are_listed_until_their_key_is_destroyed(ring):
    """Of all keys only those of periods are listed, in order, and none that was destroyed or never made."""
    assert ring.periods() == ()
    for name in ("deployment", "data/7", "period/30", "period/-4", "period/5"):
        ring.get_or_create(name)
    assert ring.periods() == (-4, 5, 30)
    ring.destroy("period/5")
    ring.destroy("period/6")
    assert ring.periods() == (-4, 30)


def test_storage_windows_are_listed_until_their_key_is_destroyed(ring):
    """Of all keys only those of storage windows are listed, in order, and none that was destroyed or never made."""
    assert ring.storage_windows() == ()
    for name in ("deployment", "data/7", "data/-2", "period/30"):
        ring.get_or_create(name)
    assert ring.storage_windows() == (-2, 7)
    ring.destroy("data/7")
    ring.destroy("data/8")
    assert ring.storage_windows() == (-2,)


def test_keys_survive_the_process(directory):
    """A ring that is opened again holds the keys, and the destroyed ones stay destroyed."""
    first = DirectoryKeyRing.open(directory, MASTER)
    key = first.get_or_create("deployment")
    first.get_or_create("data/5")
    first.destroy("data/5")
    again = DirectoryKeyRing.open(directory, MASTER)
    assert again.get("deployment") == key
    with pytest.raises(KeyUnavailable, match="destroyed"):
        again.get_or_create("data/5")


@pytest.mark.parametrize("name", ["data/../x", "data/", "x", "../deployment", "data/1/2", "", "check", "data/1\n"])
def test_a_name_outside_the_scheme_is_a_defect(directory, name):
    """No name reaches a file outside its folder."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    for call in (ring.get, ring.get_or_create, ring.destroy):
        with pytest.raises(InvariantError, match="is no key name"):
            call(name)


def test_only_the_owner_may_read(directory):
    """Every file of a ring has mode 0600, every directory 0700."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    for name in NAMES:
        ring.get_or_create(name)
    ring.destroy("period/0")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
    assert len(modes) == 4 + len(NAMES)
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


def test_no_key_lies_in_the_clear(directory):
    """Neither a key nor the master key stands in any file of the ring."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    secrets = [MASTER, *(ring.get_or_create(name) for name in NAMES)]
    content = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert not any(secret in content or secret.hex().encode() in content for secret in secrets)


def test_destroying_leaves_an_empty_tombstone_and_no_key(directory):
    """Nothing of the key is left, in no name of its inode; only an empty file says that it was."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.get_or_create("data/5")
    path = directory / "data" / "5.key"
    witness, left = directory.parent / "witness", directory / "data" / "5.abc.new"
    os.link(path, witness)
    os.link(path, left)
    ring.destroy("data/5")
    assert witness.read_bytes() == bytes(60)
    assert [p.name for p in (directory / "data").iterdir()] == ["5.destroyed"]
    assert (directory / "data" / "5.destroyed").read_bytes() == b""


def test_a_crash_after_the_tombstone_is_repaired(directory):
    """A key whose tombstone exists is refused at once, and the next `destroy` removes it."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.get_or_create("data/5")
    (directory / "data" / "5.destroyed").touch()
    for call in (ring.get, ring.get_or_create):
        with pytest.raises(KeyUnavailable, match="destroyed"):
            call("data/5")
    ring.destroy("data/5")
    assert not (directory / "data" / "5.key").exists()


@pytest.mark.parametrize("left", ["0.key", "0.abc.new"])
def test_a_period_is_listed_while_anything_of_its_key_is_left(directory, left):
    """A crash after the tombstone leaves a period in the list, and destroying its key again takes it out."""
    ring = DirectoryKeyRing(directory, MASTER)
    ring.get_or_create("period/0")
    wrapped = (directory / "period" / "0.key").read_bytes()
    ring.destroy("period/0")
    (directory / "period" / left).write_bytes(wrapped)
    assert ring.periods() == (0,)
    ring.destroy("period/0")
    assert ring.periods() == ()


def test_the_tombstone_is_durable_before_the_key_is_touched(directory, monkeypatch):
    """When the tombstone's name cannot be made durable, the key is still whole."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.get_or_create("data/5")
    before = (directory / "data" / "5.key").read_bytes()

    def refuse(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(keys_module, "sync_directory", refuse)
    with pytest.raises(Failure, match="destroying key data/5: Input/output error"):
        ring.destroy("data/5")
    assert (directory / "data" / "5.key").read_bytes() == before


def test_a_key_destroyed_while_it_is_made_stays_dead(directory, monkeypatch):
    """A destroyer that comes between making a key and naming it wins; nothing of the key is left."""
    ring, destroyer = (DirectoryKeyRing.open(directory, MASTER) for _ in range(2))
    link = os.link

    def late(source, target):
        monkeypatch.setattr(os, "link", link)
        (directory / "data" / "5.destroyed").touch()
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(KeyUnavailable, match="destroyed"):
        ring.get_or_create("data/5")
    assert [p.name for p in (directory / "data").iterdir()] == ["5.destroyed"]

    def destroyed_first(source, target):
        monkeypatch.setattr(os, "link", link)
        destroyer.destroy("data/6")
        link(source, target)

    monkeypatch.setattr(os, "link", destroyed_first)
    with pytest.raises(KeyUnavailable, match="destroyed"):
        ring.get_or_create("data/6")
    assert not list((directory / "data").glob("6*[!d]"))


def test_the_loser_of_a_race_gets_the_winners_key(directory, monkeypatch):
    """Where another process names its key first, that one is returned, and the loser's is gone."""
    ring, winner = (DirectoryKeyRing.open(directory, MASTER) for _ in range(2))
    link, won = os.link, []

    def second(source, target):
        monkeypatch.setattr(os, "link", link)
        won.append(winner.get_or_create("period/0"))
        link(source, target)

    monkeypatch.setattr(os, "link", second)
    assert [ring.get_or_create("period/0")] == won
    assert [p.name for p in (directory / "period").iterdir()] == ["0.key"]


def _race(directory: str, barrier, names: list[str], answers) -> None:
    barrier.wait(PATIENCE_S)
    ring = DirectoryKeyRing.open(Path(directory), MASTER)
    answers.put([ring.get_or_create(name) for name in names])


def test_processes_that_race_get_the_same_keys(tmp_path):
    """Two processes that found one ring and make the same keys at the same moment agree on every one."""
    spawn = multiprocessing.get_context("spawn")
    names = ["deployment", *(f"data/{n}" for n in range(50))]
    barrier, answers = spawn.Barrier(2), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(str(tmp_path / "keys"), barrier, names, answers)) for _ in range(2)]
    for racer in racers:
        racer.start()
    first, second = (answers.get(timeout=PATIENCE_S) for _ in racers)
    for racer in racers:
        racer.join(PATIENCE_S)
    assert first == second
    assert len(set(first)) == len(names)
    assert not list((tmp_path / "keys").rglob("*.new"))


def test_another_master_key_is_refused_at_once(directory):
    """A wrong master key is found when the ring is opened, before any key is asked for."""
    with pytest.raises(KeyUnavailable, match=r"not the one that the keys in .* were wrapped with; give that one"):
        DirectoryKeyRing.open(directory, bytes(32))


def test_a_wrong_master_key_is_told_apart_from_a_damaged_key(directory):
    """Without `open` too, the message says which of the two it is."""
    DirectoryKeyRing.open(directory, MASTER).get_or_create("data/5")
    with pytest.raises(KeyUnavailable, match="master key is not the one"):
        DirectoryKeyRing(directory, bytes(32)).get("data/5")
    path = directory / "data" / "5.key"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(KeyUnavailable, match="key data/5 is damaged"):
        DirectoryKeyRing(directory, MASTER).get("data/5")


@pytest.mark.parametrize("content", [b"", b"short", bytes(60), bytes(61)])
def test_a_damaged_key_is_refused_and_not_replaced(directory, content):
    """A damaged file raises, and is not overwritten by a new key."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    path = directory / "data" / "5.key"
    path.write_bytes(content)
    for call in (ring.get, ring.get_or_create):
        with pytest.raises(KeyUnavailable, match="key data/5 is damaged"):
            call("data/5")
    assert path.read_bytes() == content


def test_one_key_file_cannot_stand_for_another(directory):
    """The name is authenticated: a file copied to another name does not open."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.get_or_create("data/5")
    (directory / "data" / "6.key").write_bytes((directory / "data" / "5.key").read_bytes())
    with pytest.raises(KeyUnavailable, match="key data/6 is damaged"):
        ring.get("data/6")


def test_a_key_that_may_not_be_read_says_so(directory, monkeypatch):
    """A file of another account is neither missing nor damaged, and no new key takes its place."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.get_or_create("data/5")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for call in (ring.get, ring.get_or_create):
        with pytest.raises(KeyUnavailable, match=r"may not read .* owner, with mode 0600"):
            call("data/5")


def test_a_key_that_the_disk_refuses_says_so(directory):
    """Something that is no file under a key's name is reported as what it is."""
    (directory / "data" / "5.key").mkdir()
    with pytest.raises(KeyUnavailable, match=r"cannot be read \(Is a directory\)"):
        DirectoryKeyRing.open(directory, MASTER).get("data/5")


def test_a_ring_that_lost_its_check_is_refused(directory):
    """Keys without a check file are not adopted by whatever master key comes along."""
    DirectoryKeyRing.open(directory, MASTER).get_or_create("deployment")
    (directory / "check").unlink()
    with pytest.raises(KeyUnavailable, match="its file 'check' is missing"):
        DirectoryKeyRing.open(directory, MASTER)


def test_a_master_key_beside_a_new_ring_is_not_one_of_its_keys(tmp_path):
    """A ring may be founded in the directory that holds the master key file."""
    create_master_key(tmp_path / "master.key")
    ring = DirectoryKeyRing.open(tmp_path, load_master_key(tmp_path / "master.key", {}))
    assert ring.get_or_create("deployment") == ring.get("deployment")


# The master key.


def test_a_created_master_key_is_loaded_again(tmp_path):
    """The file is the owner's alone, and holds the key that was returned."""
    path = tmp_path / "master.key"
    key = create_master_key(path)
    assert load_master_key(path, {}) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) == 32


def test_a_master_key_is_never_overwritten(tmp_path):
    """Creating one where there is one is refused, and the old one stays."""
    key = create_master_key(tmp_path / "master.key")
    with pytest.raises(ConfigError, match="never overwritten"):
        create_master_key(tmp_path / "master.key")
    assert load_master_key(tmp_path / "master.key", {}) == key


@pytest.mark.parametrize("content", [MASTER, MASTER.hex().encode(), MASTER.hex().upper().encode() + b"\r\n", b"\n" * 32])
def test_a_master_key_file_is_hexadecimal_or_raw(tmp_path, content):
    """64 hexadecimal digits with or without a line end are a key, and so are any 32 bytes."""
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o400)
    assert load_master_key(path, {}) == (content if len(content) == 32 else MASTER)


@pytest.mark.parametrize("content", [b"", MASTER[:-1], MASTER + b"\n", b"z" * 64, MASTER.hex().encode()[:-1], b"0" * 300])
def test_a_master_key_of_another_length_is_refused(tmp_path, content):
    """Nothing else is a key, and the message says what would be, not what was there."""
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="it must hold 64 hexadecimal digits or 32 bytes") as refusal:
        load_master_key(path, {})
    assert MASTER.hex()[:8] not in str(refusal.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_master_key_that_others_may_read_is_refused(tmp_path, mode):
    """A group- or world-accessible file is refused, with the remedy."""
    path = tmp_path / "master.key"
    create_master_key(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_master_key(path, {})


def test_a_missing_master_key_says_where_one_may_be_given(tmp_path):
    """Without file and variable, and with a file that is not there, the message names the setting."""
    for environ in ({}, {MASTER_KEY_VARIABLE: " "}):
        with pytest.raises(ConfigError, match=f"master_key_file, or set {MASTER_KEY_VARIABLE}"):
            load_master_key(None, environ)
    with pytest.raises(ConfigError, match="there is no master key file"):
        load_master_key(tmp_path / "none", {MASTER_KEY_VARIABLE: MASTER.hex()})
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        load_master_key(tmp_path, {})


def test_the_environment_gives_the_master_key():
    """The variable is used where no file is named; anything but 64 hexadecimal digits is refused without being shown."""
    assert load_master_key(None, {MASTER_KEY_VARIABLE: MASTER.hex() + "\n"}) == MASTER
    with pytest.raises(ConfigError, match="is 63 characters long; it must be 64 hexadecimal digits") as refusal:
        load_master_key(None, {MASTER_KEY_VARIABLE: MASTER.hex()[:-1]})
    assert MASTER.hex()[:8] not in str(refusal.value)


OTHER = bytes(range(32, 64))
FIRST = RingRecord(LedgerMark("a" * 32, 1, bytes(32)))
SECOND = RingRecord(
    LedgerMark("a" * 32, 2, bytes(range(32))),
    DecisionMark(7, bytes(range(32, 64))),
    PlanMark(3, "cd" * 32),
    {0: PrivacyLoss(Fraction(22, 97), Fraction(1, 3 * 10**9))},
    {"1h": 3_600_000},
    frozenset({0}),
    Serving("ef" * 16, "h\u00f6st", 12, 5, "/some where"),
    Claim(Window("1h", 0, 3_600_000), "01" * 16, ClaimState.DRAWN, LedgerMark("a" * 32, 3, bytes(range(1, 33))), "ab" * 32),
)


def test_a_record_is_swapped_by_whoever_knows_it(ring):
    """A ring has no record at first; a swap that does not name the one that is there changes nothing."""
    assert ring.record() is None
    with pytest.raises(StateConflict):
        ring.swap(FIRST, SECOND)
    assert ring.record() is None
    ring.swap(None, FIRST)
    for wrong in (None, SECOND):
        with pytest.raises(StateConflict):
            ring.swap(wrong, SECOND)
        assert ring.record() == FIRST
    ring.swap(FIRST, SECOND)
    assert ring.record() == SECOND


def _open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_reader_sees_each_change_of_the_record_and_keeps_one_file_open(directory):
    """Whether the file is another one, the one of before put back, written to in its place, or gone."""
    ring, other = DirectoryKeyRing.open(directory, MASTER), DirectoryKeyRing.open(directory, MASTER)
    ring.swap(None, FIRST)
    assert ring.record() == other.record() == FIRST
    path, open_files = directory / "ledger", _open_files()
    kept = path.read_bytes()
    for _ in range(50):
        ring.swap(FIRST, SECOND)
        assert other.record() == SECOND
        ring.swap(SECOND, FIRST)
        assert other.record() == FIRST
    assert _open_files() == open_files
    ring.swap(FIRST, SECOND)
    assert other.record() == SECOND
    path.write_bytes(kept)
    assert other.record() == FIRST
    path.write_bytes(kept[:-1])
    with pytest.raises(KeyUnavailable, match="is damaged"):
        other.record()
    path.unlink()
    assert other.record() is None


def counted(ring, times):
    """Adds one to the record's head so many times, each in one step."""
    for _ in range(times):
        while True:
            before = ring.record()
            try:
                ring.swap(before, replace(before, head=replace(before.head, sequence=before.head.sequence + 1)))
                break
            except StateConflict:
                continue


def test_no_step_is_lost_among_threads(ring):
    """Of eight that race each swap comes after all that came before it."""
    ring.swap(None, replace(FIRST, head=replace(FIRST.head, sequence=0)))
    threads = [threading.Thread(target=counted, args=(ring, 10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ring.record().head.sequence == 80


def _count_in_process(directory):
    counted(DirectoryKeyRing(directory, MASTER), 10)


def test_no_step_is_lost_among_processes(directory):
    """Likewise, where each process has opened the ring itself."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    ring.swap(None, replace(FIRST, head=replace(FIRST.head, sequence=0)))
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        pool.map(_count_in_process, [directory] * 8, chunksize=1)
    assert ring.record().head.sequence == 80


def test_a_record_is_durable_before_it_is_seen(directory, monkeypatch):
    """Its bytes are synced before the name changes, and the name before `swap` returns; a failure leaves one of both."""
    ring, done = DirectoryKeyRing.open(directory, MASTER), []
    ring.swap(None, FIRST)
    honest = {name: getattr(record_module, name) for name in ("write_durably", "sync_directory")}
    for name, call in honest.items():
        monkeypatch.setattr(record_module, name, lambda *a, n=name, c=call: (done.append((n, ring.record())), c(*a)))
    ring.swap(FIRST, SECOND)
    assert done == [("write_durably", FIRST), ("sync_directory", SECOND)]
    for name, call in honest.items():

        def refused(*_):
            raise OSError(28, "no space")

        monkeypatch.setattr(record_module, name, refused)
        before = ring.record()
        with pytest.raises(StorageFull, match="writing the record"):
            ring.swap(before, FIRST)
        assert ring.record() in (before, FIRST)
        monkeypatch.setattr(record_module, name, call)
    assert [p.name for p in directory.glob("ledger*")] in (["ledger", "ledger.lock"], ["ledger.lock", "ledger"])


def test_a_record_survives_the_process_and_a_new_master_key(directory):
    """It is read by whoever opens the ring; one that was changed, at any byte, is not believed, and told by name."""
    DirectoryKeyRing.open(directory, MASTER).swap(None, SECOND)
    ring = DirectoryKeyRing.open(directory, MASTER)
    assert ring.record() == SECOND
    ring.rewrap(OTHER)
    assert DirectoryKeyRing.open(directory, OTHER).record() == SECOND
    content = (directory / "ledger").read_bytes()
    for damaged in (content[:-1], b"", content[:5], content[:20] + bytes([content[20] ^ 1]) + content[21:]):
        (directory / "ledger").write_bytes(damaged)
        with pytest.raises(KeyUnavailable, match="ledger is damaged; put the whole key directory back"):
            DirectoryKeyRing.open(directory, OTHER).record()
        with pytest.raises(KeyUnavailable, match="is damaged"):
            DirectoryKeyRing.open(directory, OTHER).swap(SECOND, FIRST)


def test_a_mark_of_before_is_a_record(directory):
    """A ring that an earlier hushmeter made said how far the ledger had come; that is what its record begins with."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    mark = b'{"deployment_id": "%s", "sequence": 1, "entry_hash": "%s"}' % (b"a" * 32, bytes(32).hex().encode())
    (directory / "ledger").write_bytes(ring._wrap("ledger", mark))
    assert ring.record() == FIRST
    ring.swap(FIRST, SECOND)
    assert ring.record() == SECOND


def test_a_record_is_its_bytes():
    """What is encoded comes back whole; equal records have equal bytes; anything else is no record."""
    for record in (FIRST, SECOND, replace(SECOND, claim=replace(SECOND.claim, state=ClaimState.LOST, publication=""))):
        assert decode_record(encode_record(record)) == record
        assert encode_record(decode_record(encode_record(record))) == encode_record(record)
    for content in (b"", b"[]", b"{}", b"\xff", encode_record(SECOND)[:-1]):
        with pytest.raises(ValueError, match=r"."):
            decode_record(content)


def test_what_was_claimed_and_charged_never_falls():
    """Neither by a claim of another window nor by a restore; a claim is ended by its owner alone."""
    loss, window = PrivacyLoss(Fraction(1, 2)), Window("1h", 7_200_000, 10_800_000)
    claimed = FIRST.claimed(window, "o", 0, loss)
    with pytest.raises(StateConflict, match="is claimed, and ends before another one"):
        claimed.claimed(Window("1d", 0, 86_400_000), "p", 0, loss)
    for step in (lambda r: r.drawn("p", "ab", FIRST.head), lambda r: r.lost("p", FIRST.head), lambda r: r.ended("p")):
        with pytest.raises(StateConflict, match="no longer ours"):
            step(claimed)
    ended = claimed.lost("o", SECOND.head).ended("o")
    assert (ended.head, ended.newest, ended.charged) == (SECOND.head, {"1h": 10_800_000}, {0: loss})
    for earlier in (window, Window("1h", 0, 3_600_000)):
        with pytest.raises(StateConflict, match="has been claimed before"):
            ended.claimed(earlier, "o", 0, loss)
        assert ended.losing(earlier, "o", 0, PrivacyLoss(), FIRST.head).newest == ended.newest
    restored = ended.restored(FIRST.head, DecisionMark(), {0: PrivacyLoss(Fraction(1, 4))})
    assert (restored.newest, restored.charged, restored.head) == (ended.newest, ended.charged, FIRST.head)


def wrapped_files(directory):
    """What every key is wrapped as, by file."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.stat().st_size}


def test_another_master_key_opens_the_same_keys(directory):
    """After `rewrap` every key is as it was, the old master key opens nothing, and destroyed keys stay destroyed."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    keys = {name: ring.get_or_create(name) for name in NAMES}
    ring.get_or_create("data/0")
    ring.destroy("data/0")
    before = wrapped_files(directory)
    assert ring.rewrap(OTHER) == len(NAMES) + 1
    after = wrapped_files(directory)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    other = DirectoryKeyRing.open(directory, OTHER)
    assert {name: other.get(name) for name in NAMES} == keys
    with pytest.raises(KeyUnavailable, match="destroyed"):
        other.get("data/0")
    with pytest.raises(KeyUnavailable, match="the master key is not the one"):
        DirectoryKeyRing.open(directory, MASTER)
    assert ring.rewrap(OTHER) == 0


@pytest.mark.parametrize("steps", range(4))
def test_an_interrupted_rotation_is_finished_by_the_same_call(directory, monkeypatch, steps):
    """Wherever it stops, calling again with the same two keys wraps what is left, and no key is lost."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    keys = {name: ring.get_or_create(name) for name in NAMES}
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
    assert DirectoryKeyRing.open(directory, MASTER).rewrap(OTHER) == len(NAMES) + 1 - steps
    other = DirectoryKeyRing.open(directory, OTHER)
    assert {name: other.get(name) for name in NAMES} == keys


def test_a_foreign_master_key_rotates_nothing(directory):
    """Whoever does not have the ring's master key cannot put another one in its place."""
    before = wrapped_files(directory)
    with pytest.raises(KeyUnavailable, match="the master key is not the one"):
        DirectoryKeyRing(directory, bytes(32)).rewrap(OTHER)
    assert wrapped_files(directory) == before
