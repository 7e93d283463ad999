"""Files that people name are read within a bound, and secrets of which others may know are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hushmeter.errors import ConfigError
from hushmeter.secret_files import read_secret, read_small, unread_text


def test_no_more_than_the_bound_is_read(tmp_path: Path) -> None:
    """Of a large file the first bytes are read."""
    path = tmp_path / "file"
    path.touch(mode=0o600)
    path.write_bytes(b"0123456789")
    assert read_small(path, 4) == read_secret(path, "key", 4) == b"0123"
    assert read_small(path, 100) == read_secret(path, "key", 100) == b"0123456789"


@pytest.mark.parametrize("bit", range(6))
def test_a_secret_of_others_is_refused(tmp_path: Path, bit: int) -> None:
    """Any right of group or world refuses a secret, and what is in it is not said; what is no secret may have them."""
    path = tmp_path / "file"
    path.write_bytes(b"sesame")
    path.chmod(0o600 | 1 << bit)
    with pytest.raises(
        ConfigError, match=f"others may read or change the key .*file .mode 06{1 << bit:02o}.*chmod 600"
    ) as no:
        read_secret(path, "key", 100)
    assert "sesame" not in str(no.value)
    assert read_small(path, 100) == b"sesame"


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_secret_of_its_owner_is_read(tmp_path: Path, mode: int) -> None:
    """Whatever rights its owner has are the owner's business."""
    path = tmp_path / "file"
    path.write_bytes(b"sesame")
    path.chmod(mode)
    assert read_secret(path, "key", 100) == b"sesame"


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    """The system's reason and what to do about it stand in one text."""
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=reason) as failed:
            read_secret(path, "key", 100)
        text = unread_text(path, "key", failed.value, "name another")
        assert text == f"the key {path} cannot be read ({reason}); name another"
