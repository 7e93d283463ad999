"""Which extra of the package brings a module that is missing; the standard library alone, for everything else may be."""

from __future__ import annotations

import sys

_EXTRAS = {
    "matplotlib": "plot",
    "pyarrow": "analyst",
    "typer": "analyst",
    "rich": "analyst",
    "numpy": "analyst",
}


def missing_extra(error: ModuleNotFoundError) -> int:
    """Says which extra brings a missing module; returns the exit status."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module, "server")
    print(  # noqa: T201
        f"hushmeter: this command needs the package {module!r}, which comes with: pip install 'hushmeter[{extra}]'",
        file=sys.stderr,
    )
    return 2
