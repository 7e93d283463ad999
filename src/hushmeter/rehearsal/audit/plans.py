"""The plans that the audit brings: together they have every kind, statistic and currency, and every way to bound a unit."""

from __future__ import annotations

_PLAN = """
plan: audit
version: 1
privacy: {{unit: canary, period: {period}, epsilon: 4, delta: 1e-6, currency: {currency}, expected_units: 1000}}
resolutions: {{1h: {{lateness: 10m}}, 1d: {{lateness: 2h}}}}
purposes: {{tuning: Tune models., research: Do research.}}
metrics:
  counted: &common
    description: Canaries.
    owner: audit@example.com
    expires: 2026-12-31
    category: service_generated
    purposes: [tuning]
    kind: counter
    dimensions: {{part: {{values: [a, b, c], scope: unit}}, half: {{values: [x, y]}}}}
    views: [[], [part], [part, half]]
    per_unit: {{range: [-7, 10], max_partitions: 2, max_windows: {{1h: 2}}}}
    statistics: [units, sum, mean, variance, clamped]
  shared:
    <<: *common
    purposes: [tuning, research]
    bounding: shared
    per_unit: {{range: [0, 10], max_partitions: 2}}
    statistics: [units, sum]
  timed:
    <<: *common
    purposes: [research]
    kind: distribution
    unit: ms
    edges: [10, 50]
    weighting: event
    views: [[], [part]]
    per_unit: {{range: [0, 100], max_events: 5, max_partitions: 2}}
    statistics: [events, sum, histogram]
  felt:
    <<: *common
    kind: distribution
    unit: ms
    edges: [10, 50]
    at: [1d]
    dimensions: {{}}
    views: [[]]
    per_unit: {{range: [0, 100], max_events: 5}}
    statistics: [units, mean, histogram, {{quantiles: [0.5]}}]
  chosen:
    <<: *common
    kind: choice
    options: [left, right, neither]
    dimensions: {{}}
    views: [[]]
    at: [1d]
    per_unit: {{}}
    statistics: [histogram, rate]
  told:
    <<: *common
    purposes: [research]
    kind: flag
    dimensions: {{}}
    views: [[]]
    at: [1d]
    per_unit: {{}}
    statistics: [rate]
  related:
    <<: *common
    kind: ratio
    unit: ms/s
    dimensions: {{}}
    views: [[]]
    at: [1d]
    per_unit: {{range: [0, 10], max_denominator: 50}}
    statistics: [units, ratio, numerator, denominator]
  named:
    <<: *common
    dimensions: {{half: {{values: [x, y]}}, name: {{open: true, max_length: 8, pattern: '[a-z0-9]+'}}}}
    views: [[name], [half, name]]
    per_unit: {{range: [0, 10], max_partitions: 2}}
    statistics: [units, sum]
"""

AUDIT_PLANS = (_PLAN.format(currency="zcdp", period="1w"), _PLAN.format(currency="pure", period="1d"))
"""One in each currency: zcdp with a period of a week, pure with a period of a day."""
