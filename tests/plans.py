"""Plans of tests: one that overrides change, so that a test writes out only what it is about."""

from __future__ import annotations

from typing import Any

import yaml


def plan_text(
    metrics: str,
    *,
    expires: str = "2026-12-31",
    category: str = "product_usage",
    asks: str = "tuning",
    purposes: str = "tuning: Tune models.",
    resolutions: str = "1h: {lateness: 10m}, 1d: {lateness: 48h}",
    unit: str = "device",
    period: str = "1w",
    epsilon: int = 4,
    delta: str = "1e-8",
    expected_units: int = 100,
    privacy: str = "",
    consent: str = "",
) -> str:
    """A plan's text; what is not said is as below.

    Args:
        metrics: as a plan has them; what they all say (`<<: *common`) is filled in after the name of the first one.
        expires: of the metrics.
        category: of the metrics.
        asks: the metrics' purposes, with commas between them.
        purposes: as a plan has them, without their braces.
        resolutions: without their braces, too.
        unit: that is protected.
        period: of protection.
        epsilon: of one period.
        delta: of one period.
        expected_units: in one window.
        privacy: its other fields, without braces.
        consent: languages and sources, without braces.
    """
    first, _, others = metrics.strip().partition("\n")
    anchor = " &common" if "*common" in others else ""
    also = f", {privacy}" if privacy else ""
    return f"""
plan: test
version: 1
privacy: {{unit: {unit}, period: {period}, epsilon: {epsilon}, delta: {delta}, expected_units: {expected_units}{also}}}
resolutions: {{{resolutions}}}
purposes: {{{purposes}}}
{f"consent: {{{consent}}}" if consent else ""}
metrics:
  {first}{anchor}
    description: Something.
    owner: test@example.com
    expires: {expires}
    category: {category}
    purposes: [{asks}]
{others}
"""


OPEN_DIMENSIONS = plan_text(
    r"""
  joins:
    kind: counter
    dimensions:
      platform: {values: [ios, android], scope: unit}
      app_version: {open: true, max_length: 8, pattern: '^\d+\.\d+$'}
      network: {values: [wifi, cellular]}
    views: [[], [platform, app_version]]
    per_unit: {range: [0, 100], max_partitions: 1}
    statistics: [units, sum]
  setup:
    <<: *common
    kind: distribution
    unit: ms
    edges: [10, 100]
    per_unit: {range: [0, 1000], max_events: 10, max_partitions: 1}
    dimensions: {word: {open: true, max_length: 64, pattern: '(?s).*'}}
    views: [[word]]
    statistics: [units, mean]
  starts:
    <<: *common
    dimensions: {platform: {values: [ios, android], scope: unit}}
    views: [[platform]]
""",
    resolutions="1h: {lateness: 10m}",
    unit="account",
)
"""Two metrics with open dimensions beside one without."""


def with_field(text: str, path: tuple[str | int, ...], value: Any) -> str:
    """A plan with one field changed; `...` removes it."""
    plan = yaml.safe_load(text)
    place = plan
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return yaml.safe_dump(plan, sort_keys=False)
