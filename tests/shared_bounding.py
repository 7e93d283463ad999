"""A counter by platform, of which a unit has one, and by kind and side, of which it has many; its views share a bound."""

from __future__ import annotations

import datetime as dt

from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.reading import parse_plan
from tests.plans import plan_text


def catalog(most: int) -> Catalog:
    """Of a unit so many partitions count."""
    text = plan_text(
        f"""
  m:
    kind: counter
    dimensions:
      platform: {{values: [a, b, c], scope: unit}}
      kind: {{values: [k, l, m, n]}}
      side: {{values: [x, y]}}
    views: [[], [platform], [kind], [side], [kind, side], [platform, kind, side]]
    bounding: shared
    per_unit: {{range: [0, 5], max_partitions: {most}}}
    statistics: [sum]
""",
        resolutions="1d: {lateness: 2h}",
    )
    plan = parse_plan(text, dt.date(2026, 2, 1))
    return Catalog.of(plan, assign_blocks(plan))
