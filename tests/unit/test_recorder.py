"""The light client counts by the values of open dimensions, and judges nothing about them but what cannot be sent."""

from __future__ import annotations

import pytest

from hushmeter import limits
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.sdk import Recorder

PLAN = pb.PlanDescription(
    version=3,
    metrics=[
        pb.MetricDescription(
            name="joins",
            kind=pb.METRIC_KIND_COUNTER,
            resolution="1",
            components=["total"],
            first_series=1,
            range_high=100,
            dimensions=[
                pb.DimensionDescription(name="platform", values=["ios", "web"]),
                pb.DimensionDescription(name="app_version", open=True, pattern=r"\d+", max_length=4),
                pb.DimensionDescription(name="network", values=["wifi", "cellular"]),
            ],
        ),
        pb.MetricDescription(
            name="crashed",
            kind=pb.METRIC_KIND_FLAG,
            resolution="1",
            components=["true", "false"],
            first_series=5,
            dimensions=[pb.DimensionDescription(name="app_version", open=True, pattern=".*", max_length=4)],
        ),
        pb.MetricDescription(
            name="theme",
            kind=pb.METRIC_KIND_CHOICE,
            resolution="1",
            components=["light", "dark"],
            first_series=7,
        ),
    ],
)


@pytest.fixture
def recorder() -> Recorder:
    """A recorder of one unit."""
    return Recorder(PLAN, "unit", [])


def recorded(recorder: Recorder) -> tuple[dict[tuple[int, str | None], int], list[str]]:
    """What a recorder's next report says: totals by series and token, and its table."""
    report = recorder.report(0, 1)
    assert report is not None
    named = [None, *report.token]
    tokens = [named[number] for number in report.point_token] or [None] * len(report.series)
    return dict(zip(zip(report.series, tokens, strict=True), report.value, strict=True)), list(report.token)


def test_totals_are_kept_by_token(recorder: Recorder) -> None:
    """Equal values of an open dimension add up, others stand apart, and metrics share one table of tokens."""
    for version, network in (("1.0", "wifi"), ("1.0", "wifi"), ("2.0", "wifi"), ("2.0", "cellular")):
        recorder.count("joins", 2, network=network, app_version=version, platform="web")
    recorder.flag("crashed", False, app_version="2.0")
    recorder.choose("theme", "dark")
    totals, table = recorded(recorder)
    assert totals == {(3, "1.0"): 4, (3, "2.0"): 2, (4, "2.0"): 2, (6, "2.0"): 1, (8, None): 1}
    assert table == ["1.0", "2.0"]


def test_a_report_without_tokens_has_neither_column(recorder: Recorder) -> None:
    """Reports of closed dimensions are the same on the wire as before, also after one with tokens."""
    recorder.flag("crashed", True, app_version="1")
    assert recorded(recorder) == ({(5, "1"): 1}, ["1"])
    recorder.choose("theme", "light")
    report = recorder.report(0, 1)
    assert report is not None
    assert (len(report.token), len(report.point_token)) == (0, 0)


def test_what_cannot_be_sent_is_told_at_once(recorder: Recorder) -> None:
    """Other types, too many characters, half a surrogate pair and a missing value raise; nothing of them is counted."""
    with pytest.raises(TypeError, match="app_version is a str, got int"):
        recorder.flag("crashed", True, app_version=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 4 characters, got 5"):
        recorder.flag("crashed", True, app_version="12345")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        recorder.flag("crashed", True, app_version="\ud800")
    with pytest.raises(ValueError, match="has the dimensions"):
        recorder.flag("crashed", True)
    assert recorder.report(0, 1) is None


def test_the_pattern_is_left_to_the_server(recorder: Recorder) -> None:
    """A value that does not match is recorded: one engine judges patterns, the server's."""
    recorder.count("joins", 1, platform="ios", app_version="日本", network="wifi")
    assert recorded(recorder)[1] == ["日本"]


def test_a_report_has_so_many_tokens_and_no_more(recorder: Recorder) -> None:
    """One value more than a report may carry raises; known ones go on counting, and the next report has room again."""
    most = limits.TOKENS_PER_REPORT_MAX
    for i in range(most):
        recorder.flag("crashed", True, app_version=str(i))
    with pytest.raises(ValueError, match=f"at most {most} distinct values"):
        recorder.flag("crashed", True, app_version=str(most))
    recorder.flag("crashed", True, app_version="0")
    totals, table = recorded(recorder)
    assert (len(table), totals[5, "0"], sum(totals.values())) == (most, 2, most + 1)
    recorder.flag("crashed", True, app_version=str(most))
    assert recorded(recorder) == ({(5, str(most)): 1}, [str(most)])
