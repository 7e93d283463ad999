"""What is a master key, and who may give it."""

from __future__ import annotations

import stat

import pytest

from hushmeter.errors import ConfigError, KeyUnavailable
from hushmeter.storage.keys.master_key import MASTER_KEY_VARIABLE, create_master_key, load_master_key
from tests.contract.ring_files import MASTER


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
