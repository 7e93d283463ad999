"""What the key ring in a directory promises of its files."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from hushmeter.errors import Failure, InvariantError, KeyUnavailable
from hushmeter.model.key_names import data_key
from hushmeter.patience import PATIENCE_S
from hushmeter.storage.keys import files as keys_module
from hushmeter.storage.keys.files import DirectoryKeyRing
from hushmeter.storage.keys.master_key import create_master_key, load_master_key
from hushmeter.testing.contracts.key_ring import KEY_NAMES
from tests.contract.ring_files import MASTER


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
    for name in KEY_NAMES:
        ring.get_or_create(name)
    ring.destroy("period/0")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
    assert len(modes) == 4 + len(KEY_NAMES)
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


def test_no_key_lies_in_the_clear(directory):
    """Neither a key nor the master key stands in any file of the ring."""
    ring = DirectoryKeyRing.open(directory, MASTER)
    secrets = [MASTER, *(ring.get_or_create(name) for name in KEY_NAMES)]
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
    names = ["deployment", *(data_key(n) for n in range(50))]
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
