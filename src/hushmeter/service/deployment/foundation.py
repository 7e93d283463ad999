"""What only a founded deployment has."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from hushmeter.errors import ConfigError

_T = TypeVar("_T")


def ensure_founded(found: _T | None, state_dir: Path | str) -> _T:
    """What a store holds once its deployment was founded.

    Args:
        found: the deployment, or the versions of its plan, as the store has them.
        state_dir: of the store, for the message.

    Raises:
        ConfigError: there is nothing, so the deployment has not been founded.
    """
    if not found:
        raise ConfigError(f"{state_dir} has not been founded yet; start it with hushmeter serve --plan FILE")
    return found
