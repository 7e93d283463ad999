"""The console script: says which extra is missing before anything else goes wrong."""

from __future__ import annotations

import sys

from hushmeter.cli.extras import missing_extra


def main() -> int:
    """Runs the command line; returns the exit status."""
    try:
        from hushmeter.cli.app import run
    except ModuleNotFoundError as error:
        return missing_extra(error)
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
