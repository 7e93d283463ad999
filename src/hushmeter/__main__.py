"""The console script: says which extra is missing before anything else goes wrong."""

from __future__ import annotations

import sys

_EXTRAS = {
    "matplotlib": "plot",
    "pyarrow": "analyst",
    "typer": "analyst",
    "rich": "analyst",
    "numpy": "analyst",
}


def main() -> int:
    """Runs the command line; returns the exit status."""
    try:
        from hushmeter.cli.app import run
    except ModuleNotFoundError as error:
        return missing_extra(error)
    return run(sys.argv[1:])


def missing_extra(error: ModuleNotFoundError) -> int:
    """Says which extra brings a missing module."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module, "server")
    print(  # noqa: T201
        f"hushmeter: this command needs the package {module!r}, which comes with: pip install 'hushmeter[{extra}]'",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
