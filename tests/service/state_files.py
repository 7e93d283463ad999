"""What lies in a state directory and in that of its keys."""

from __future__ import annotations

from pathlib import Path

from hushmeter.service.deployment.config import Config


def everything(directory: Path) -> dict[str, bytes]:
    """Every file of a state and of its keys, SQLite's log included, with its bytes."""
    found = {}
    for place in (directory, Config(state_dir=directory).keys):
        found |= {str(p.relative_to(place.parent)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    return found
