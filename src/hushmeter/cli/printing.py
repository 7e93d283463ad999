"""Where commands print tables, and what several tables say."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

DESTROYED = "destroyed at: or once the windows over it have ended, if that is later"
_PIPED_WIDTH = 160


def console() -> Console:
    """A console as wide as the terminal; into files and pipes wide enough for whole rows, unless COLUMNS says otherwise."""
    from rich.console import Console

    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPED_WIDTH if wide else None)
