"""The plan that `hushmeter plan init` writes: small, commented, valid."""

from __future__ import annotations

import datetime as dt

_DAYS_TO_EXPIRY = 180

PLAN_TEMPLATE = """\
# A hushmeter telemetry plan: everything that may be measured, and nothing else.
# Check it with: hushmeter plan check THIS_FILE
plan: call-quality
version: 1

# What is protected: one account's whole record of one period has a differential privacy loss of (epsilon, delta).
privacy:
  unit: account
  period: 1w              # 1d, 1w (Monday to Sunday, UTC) or 1mo
  epsilon: 4
  delta: 1e-8             # far below 1 / number of accounts
  expected_units: 50000   # how many you expect in one window; predicts errors

# Window lengths. Each takes reports until its own lateness has passed; each divides the next coarser one and the period.
resolutions:
  1h: {lateness: 10m}
  1d: {lateness: 48h}

# People are asked about each purpose. What they have not allowed is not collected.
purposes:
  model_tuning: Tune the models that pick codecs and bit rates.

# What may be kept beside a decision: in which language and where somebody was asked. Nothing else is taken.
consent: {languages: [en, de], sources: [onboarding, settings]}

metrics:
  calls:
    description: Calls that were started.
    owner: media-quality@example.com
    expires: EXPIRES      # at most one year ahead; afterwards the metric is refused
    category: product_usage        # product_usage, diagnostic, performance or service_generated
    purposes: [model_tuning]
    kind: counter
    unit: calls
    dimensions:
      platform: {values: [ios, android, mac, windows, linux, web], scope: unit}   # one value a unit
    views: [[], [platform]]        # what is released: the total, and by platform
    per_unit: {range: [0, 20], by_resolution: {1d: {range: [0, 60]}}}             # one unit's total in a window
    statistics: [units, sum]

  call_setup:
    description: Time from pressing Join to first audio.
    owner: media-quality@example.com
    expires: EXPIRES
    category: diagnostic
    purposes: [model_tuning]
    kind: distribution
    unit: ms
    resolution: 1         # the step of values
    edges: [100, 200, 400, 800, 1600, 3200]        # upper-inclusive bins (a, b]
    dimensions:
      platform: {values: [ios, android, mac, windows, linux, web], scope: unit}
      # Open: short tokens that nobody has to list. Only those that enough accounts share are ever shown.
      app_version: {open: true, max_length: 16, pattern: '[0-9]+([.][0-9]+)*', expected_values: 20}
    views: [[], [platform], [app_version]]
    at: [1d]
    per_unit: {range: [0, 10000], max_events: 50, max_partitions: 2}   # of one event; events, partitions of a unit
    weighting: unit       # each unit counts once; event: as often as it had events
    statistics: [units, mean, histogram, {quantiles: [0.5, 0.9, 0.99]}, clamped]   # clamped: whom bounds altered
    weight: 2             # its errors count twice as much as those of a metric of weight 1

  call_dropped:
    description: Whether any call of the account dropped.
    owner: media-quality@example.com
    expires: EXPIRES
    category: diagnostic
    purposes: [model_tuning]
    kind: flag
    at: [1d]
    statistics: [rate]

  codec:
    description: Which codec calls used.
    owner: media-quality@example.com
    expires: EXPIRES
    category: performance
    purposes: [model_tuning]
    kind: choice
    options: [opus, aac, g711]
    at: [1d]
    statistics: [rate]
"""


def plan_template(today: dt.date) -> str:
    """A plan to start from, whose metrics expire half a year after `today`."""
    return PLAN_TEMPLATE.replace("EXPIRES", (today + dt.timedelta(days=_DAYS_TO_EXPIRY)).isoformat())
