"""Plans of tests: one that overrides change, so that a test writes out only what it is about."""

from __future__ import annotations


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
    delta: str = "1e-8",
    expected_units: int = 100,
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
        delta: of one period.
        expected_units: in one window.
    """
    first, _, others = metrics.strip().partition("\n")
    anchor = " &common" if "*common" in others else ""
    return f"""
plan: test
version: 1
privacy: {{unit: {unit}, period: {period}, epsilon: 4, delta: {delta}, expected_units: {expected_units}}}
resolutions: {{{resolutions}}}
purposes: {{{purposes}}}
metrics:
  {first}{anchor}
    description: Something.
    owner: test@example.com
    expires: {expires}
    category: {category}
    purposes: [{asks}]
{others}
"""
