"""Mutants of what the promise rests on, and which of them no test finds: `make mutants`, `python -m tests.mutation`.

mutmut changes one expression of one function, and runs the tests that came through that function. Here are chosen:
every mutant of the folders in `WHOLE`, and of `SAMPLED` so many as `--sample` says, drawn by `--seed`; those that
`equivalent.KINDS` describes are left out. Three rounds, each for those that the round before left: few examples of each
property; all examples; mypy, which `make check` runs on every change.

What is left survives. `equivalent.ONES` names those that no test can find, with the reason. A run fails where more than
3 % of the mutants survive, or where one survives that is not named there.

mutmut mutates no function that carries a decorator (properties, for example), no default that is computed, and nothing
outside functions. It leaves out the arguments of `len` and `isinstance`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from tests.mutation.equivalent import ONES, kind_of
from tests.mutation.mutants import SAMPLED, WHOLE, Mutants

SURVIVORS_MAX = 0.03


def main() -> int:
    """Runs the three rounds, and prints each survivor.

    Returns:
        The exit code: 1 where too many mutants survive, or one that `equivalent.py` does not name.
    """
    arguments = _arguments()
    started = time.monotonic()
    mutants = Mutants.copied(Path(__file__).parents[2], arguments.work, again=arguments.again)
    chosen = mutants.matching(arguments.names) if arguments.names else mutants.chosen(arguments.seed, arguments.sample)
    tried = [name for name in chosen if kind_of(mutants.change(name)) is None]
    if not tried:
        sys.exit(f"no mutant to try is called {' or '.join(arguments.names)}; a name is like 'hushmeter.ledger.*'")
    mutants.run(tried, "few")
    mutants.run(mutants.survivors(tried), "quick")
    ill_typed = mutants.ill_typed(mutants.survivors(tried))
    survivors = [name for name in mutants.survivors(tried) if name not in ill_typed]
    unknown = _printed(mutants, survivors)
    folders = Counter(name.split(".")[1] for name in tried)
    print(f"\n{len(tried)} mutants ({', '.join(f'{folder} {n}' for folder, n in sorted(folders.items()))})")
    print(f"{len(chosen) - len(tried)} were left out, which are of a kind that no test can find")
    if not arguments.names:
        print(f"whole: {' '.join(WHOLE)}; of {' '.join(SAMPLED)} {arguments.sample}, drawn by seed {arguments.seed}")
    print(f"{len(tried) - len(survivors) - len(ill_typed)} found by tests, {len(ill_typed)} by mypy alone")
    share = len(survivors) / len(tried)
    print(f"{len(survivors)} survive ({share:.1%}); {len(survivors) - unknown} are equivalent, {unknown} are not named")
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")
    return int(share > SURVIVORS_MAX or unknown > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="mutants by name, with * for any text; by default the sample")
    parser.add_argument("--seed", type=int, default=16, help="draws the sample (default: 16)")
    parser.add_argument("--sample", type=int, default=700, help="mutants of the sampled folders (default: 700)")
    parser.add_argument("--work", type=Path, default=Path("build/mutants"), help="where the mutated copy is written")
    parser.add_argument("--again", action="store_true", help="with the copy of an earlier run, and today's tests")
    return parser.parse_args()


def _printed(mutants: Mutants, survivors: list[str]) -> int:
    """Prints survivors with their change; returns how many are not named as equivalent."""
    unknown = 0
    for name in survivors:
        change = mutants.change(name)
        why = ONES.get((change.function, change.before, change.after))
        unknown += why is None
        print(f"\n{name}: {why or 'SURVIVES'}")
        for line in (*(f"- {line}" for line in change.before), *(f"+ {line}" for line in change.after)):
            print(f"    {line}")
    return unknown


if __name__ == "__main__":
    sys.exit(main())
