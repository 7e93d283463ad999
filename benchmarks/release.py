"""What releasing costs beside the noise itself: the share of the time that is inside OpenDP, and the cores it keeps busy.

    python -m benchmarks.release --json FILE [--quick] [--profile]

From exact tallies on everything counts: the charge, noise on every vector, private partitions, ledger entries, and the
durable publication in the state store. Then 1,000 rows are asked over gRPC of a server with a short history and of one with
twenty times as many releases outside of what is asked.
"""

from __future__ import annotations

import cProfile
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.releasing.questions import QuestionEffort, asked
from benchmarks.releasing.stages import released, told
from benchmarks.releasing.workload import Workload
from benchmarks.report import Goal, ended, parser_of, write_report
from hushmeter.runtime import cores

GOALS = (
    Goal(("time_in_opendp",), 0.9),
    Goal(("cores_busy",), 0.85),
    Goal(("query_with_history",), 1.2, at_most=True),
)


def workloads(*, quick: bool) -> tuple[Workload, tuple[Workload, ...]]:
    """The typical one, of about 300,000 estimates or quickly 20,000; and apart its small windows, and each mechanism."""
    places, days, alone = (560, 1, 1_000) if quick else (1_450, 6, 8_000)
    typical = Workload("typical", places, days)
    return typical, (
        Workload("small_windows", 280, days),
        Workload("discrete_gaussian", alone, 1, ("dropped",)),
        Workload("discrete_laplace", alone, 1, ("dropped",), currency="pure"),
        Workload("gaussian_threshold", 4 * alone, 1, ("seen",)),
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark and writes its report."""
    parser = parser_of("release", __doc__, quick="fewer estimates")
    parser.add_argument("--profile", action="store_true", help="also say where the time goes")
    options = parser.parse_args(arguments)
    typical, others = workloads(quick=options.quick)
    costs = released(typical)
    figures: dict[str, object] = dict(costs.figures())
    ratios: dict[str, object] = {"time_in_opendp": costs.time_in_opendp, "cores_busy": costs.cores_busy}
    print(f"typical: {costs.estimates} estimates in {costs.wall_s:.2f} s", file=sys.stderr, flush=True)
    apart = {w.name: released(w).figures() for w in others}
    print(f"{', '.join(apart)}: done", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        query, ratios["query_with_history"] = asked(Path(directory), QuestionEffort.of(quick=options.quick))
    workload = {"metrics": typical.metrics, "places": typical.places, "windows": typical.windows, "cores": cores()}
    write_report(options.json, "release", workload, figures | {"apart": apart, "query": query}, ratios)
    for name, figure in (*figures.items(), *query.items()):
        print(f"{name:34} {figure:.6g}")
    for name, found in apart.items():
        print(f"{name:34} " + ", ".join(f"{k} {found[k]:.3g}" for k in _TOLD))
    if options.profile:
        profile = cProfile.Profile()
        released(typical, profile)
        told(profile)
    return ended(GOALS, ratios)


_TOLD = ("us_per_draw", "opendp_cpu_us_per_draw", "time_in_opendp", "cores_busy")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
