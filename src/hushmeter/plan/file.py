"""The telemetry plan as its file has it: pydantic models of the YAML, strict and closed.

What these models accept is well-formed; what it means together (views name dimensions, edges are whole steps, resolutions
divide) is checked in `hushmeter.plan.reading`.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from hushmeter import limits

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=limits.TEXT_MAX_LENGTH)]
Token = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029/]{1,64}$")]
Number = Annotated[Decimal, Field(allow_inf_nan=False, max_digits=limits.NUMBER_DIGITS_MAX)]
Count = Annotated[int, Field(ge=1, le=limits.PARTITIONS_PER_METRIC_MAX)]
Events = Annotated[int, Field(ge=1, le=limits.EVENTS_PER_UNIT_MAX)]
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]
# Tags in brackets are no part of the path that people are told; see `hushmeter.plan.reading`.
AskedStatistic = Annotated[
    Annotated[str, Tag("[name]")] | Annotated[dict[str, Any], Tag("[options]")],
    Discriminator(lambda asked: "[options]" if isinstance(asked, dict) else "[name]"),
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PrivacyFile(_Closed):
    """What is protected, for how long, at what cost."""

    unit: Annotated[Name, Field(description="The kind of privacy unit, for example account or device.")]
    period: Annotated[Literal["1d", "1w", "1mo"], Field(description="The protection period; the budget is of one period.")]
    epsilon: Annotated[Number, Field(gt=0, le=100, description="Epsilon of one unit's whole record of one period.")]
    delta: Annotated[Number, Field(gt=0, lt=Decimal("1e-3"), description="Delta of the same; far below 1 over the units.")]
    currency: Annotated[
        Literal["auto", "zcdp", "pure"],
        Field(description="How losses add up: Gaussian noise, Laplace noise, or whichever errs less."),
    ] = "auto"
    weights: Annotated[
        Literal["auto", "stated"],
        Field(description="stated: the budget is divided by weight; auto: so that expected relative errors are smallest."),
    ] = "auto"
    participants: Annotated[
        bool, Field(description="Whether to count, privately, the units that take part in each purpose.")
    ] = True
    expected_units: Annotated[
        int, Field(ge=1, le=limits.UNITS_MAX, description="Units that are expected in one window; predicts errors.")
    ]


class ResolutionFile(_Closed):
    """One window length."""

    lateness: Annotated[str, Field(description="How long after a window's end its reports are still taken, such as 10m.")]


class DimensionFile(_Closed):
    """One dimension of a metric."""

    values: Annotated[
        list[Token] | None, Field(min_length=1, max_length=limits.DIMENSION_VALUES_MAX, description="The closed list.")
    ] = None
    open: Annotated[bool, Field(description="Open short tokens, released through partition selection.")] = False
    max_length: Annotated[
        int | None, Field(ge=1, le=limits.TOKEN_MAX_LENGTH, description="Of an open dimension's tokens, in characters.")
    ] = None
    pattern: Annotated[
        str | None, Field(max_length=limits.TEXT_MAX_LENGTH, description="Of an open dimension's whole tokens (RE2).")
    ] = None
    expected_values: Annotated[
        int | None, Field(ge=1, le=limits.TOKENS_PER_WINDOW_MAX, description="Distinct tokens expected in one window.")
    ] = None
    scope: Annotated[Literal["unit", "event"], Field(description="unit: a unit has one value of it.")] = "event"


class BoundsFile(_Closed):
    """What one unit can contribute at one resolution; what is left out is as for all resolutions."""

    max_partitions: Annotated[Count | None, Field(description="Partitions a unit may touch in a window and view.")] = None
    range: Annotated[Range | None, Field(description="Smallest and largest value of an event, or of a total.")] = None
    max_events: Annotated[Events | None, Field(description="Events of a unit in one window and partition.")] = None
    max_denominator: Annotated[
        int | None,
        Field(ge=1, le=limits.RANGE_MAX, description="Of a ratio: a unit's denominator in one window and partition."),
    ] = None


class PerUnitFile(BoundsFile):
    """What one unit can contribute."""

    by_resolution: Annotated[dict[str, BoundsFile], Field(description="Other bounds at some resolutions.")] = {}
    max_windows: Annotated[dict[str, Count], Field(description="Windows of a period a unit may be in, by resolution.")] = {}


class MetricFile(_Closed):
    """A declared thing that is measured."""

    description: Annotated[Text, Field(description="What it measures, in words.")]
    owner: Annotated[Text, Field(description="Who answers for it.")]
    expires: Annotated[dt.date, Field(description="After this day it is refused; at most one year ahead.")]
    category: Annotated[
        Literal["product_usage", "diagnostic", "performance", "service_generated", "customer_content"],
        Field(description="What its data is about; customer_content is always refused."),
    ]
    purposes: Annotated[list[Name], Field(min_length=1, max_length=limits.PURPOSES_MAX, description="All must be allowed.")]
    kind: Annotated[Literal["counter", "distribution", "flag", "choice", "ratio"], Field(description="The sort of thing.")]
    unit: Annotated[str, Field(max_length=limits.NAME_MAX_LENGTH, description="Unit of its values, for example ms.")] = ""
    resolution: Annotated[Number, Field(gt=0, description="One integer step of its values, in units.")] = Decimal(1)
    edges: Annotated[
        list[Number], Field(max_length=limits.EDGES_MAX, description="Upper-inclusive edges of bins, in units.")
    ] = []
    options: Annotated[list[Token], Field(max_length=limits.OPTIONS_MAX, description="Of a choice.")] = []
    dimensions: Annotated[
        dict[Name, DimensionFile],
        Field(max_length=limits.DIMENSIONS_PER_METRIC_MAX, description="Its breakdown."),
    ] = {}
    views: Annotated[
        list[list[Name]],
        Field(min_length=1, max_length=limits.VIEWS_PER_METRIC_MAX, description="Sets of dimensions to group by."),
    ] = [[]]
    at: Annotated[list[str] | None, Field(min_length=1, description="Resolutions to release at; all by default.")] = None
    per_unit: Annotated[PerUnitFile, Field(description="What one unit can contribute.")] = PerUnitFile()
    bounding: Annotated[
        Literal["separate", "shared"],
        Field(description="shared: all views are bounded as one row set, so that finer ones add up to coarser ones."),
    ] = "separate"
    weighting: Annotated[Literal["unit", "event"], Field(description="unit: each unit counts once a partition.")] = "unit"
    statistics: Annotated[list[AskedStatistic], Field(min_length=1, description="What is released.")]
    weight: Annotated[
        Number,
        Field(gt=0, le=1000, description="How much its errors count, or its share of the budget, against other metrics."),
    ] = Decimal(1)


class ConsentFile(_Closed):
    """What may be kept beside a decision."""

    languages: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2}|-[0-9]{3})?$")]],
        Field(max_length=limits.LANGUAGES_MAX, description="In which people are asked, such as en, pt-BR or zh-Hant-TW."),
    ] = []
    sources: Annotated[
        list[Name], Field(max_length=limits.SOURCES_MAX, description="Where people decide, such as onboarding.")
    ] = []


class PlanFile(_Closed):
    """A hushmeter telemetry plan."""

    plan: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$", description="The plan's name.")]
    version: Annotated[int, Field(ge=1, le=2**31 - 1, description="From 1; a change is a new version.")]
    privacy: Annotated[PrivacyFile, Field(description="What is protected, for how long, at what cost.")]
    resolutions: Annotated[
        dict[str, ResolutionFile],
        Field(min_length=1, max_length=limits.RESOLUTIONS_MAX, description="Window lengths such as 1h, 1d, 1w, 1mo."),
    ]
    purposes: Annotated[
        dict[Name, Text], Field(min_length=1, max_length=limits.PURPOSES_MAX, description="What people are asked, by name.")
    ]
    consent: Annotated[ConsentFile, Field(description="What may be kept beside a decision.")] = ConsentFile()
    metrics: Annotated[
        dict[Name, MetricFile], Field(min_length=1, max_length=limits.METRICS_MAX, description="What is measured, by name.")
    ]
