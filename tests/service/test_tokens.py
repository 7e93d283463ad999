"""Open dimensions over real sockets: tokens are judged report by report, and what is taken stands in the log."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from hushmeter import limits
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.model.report import ReportBatch
from hushmeter.model.time import MINUTE_MS
from hushmeter.testing.batches import said
from tests.plans import OPEN_DIMENSIONS
from tests.service.harness import H, finish, reasons, serving, submitted
from tests.service.running_service import Running
from tests.service.wire import message_of, packed, submit_bytes, varint

NOW = H + 30 * MINUTE_MS
UNIT = "unit-that-must-not-be-named"
MARK = "9.98877"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service in its first hour, for tests that do not move its clock."""
    with serving(tmp_path_factory.mktemp("tokens") / "state", plan=OPEN_DIMENSIONS) as service:
        service.consent(UNIT, tuning=True)
        service.clock.advance_to(NOW)
        yield service


def first_series(service: Running, metric: str) -> int:
    return next(m.first_series for m in service.plan.metrics if m.name == metric)


def report(
    service: Running, points: Sequence[tuple[str, int]], tokens: Sequence[str] = (), unit: str = UNIT, **changes: object
) -> Report:
    """A report of ones, each in the first partition of a metric, with a token by its number."""
    fields: dict[str, object] = {
        "series": [first_series(service, metric) for metric, _ in points],
        "value": [1] * len(points),
        "token": tokens,
        "point_token": [number for _, number in points],
    }
    return service.starts(unit, NOW, **(fields | changes))


def in_log(service: Running) -> dict[bytes, tuple[tuple[int, int, bytes | None], ...]]:
    """The points of every report that the log holds at this moment, by report id, read back from its files."""
    log = service.context.log
    batches = []
    for path in Path(log._directory).rglob("*.frames"):  # type: ignore[attr-defined]
        start, segment = int(path.parent.name), path.stem
        frames = log.count_frames(start, segment)
        if frames:
            batches.append(log._read_frames(log._files.segment(start, segment), frames)[0])  # type: ignore[attr-defined]
    return {report_id: points for _, report_id, *_, points in said(ReportBatch.concat(batches))}


def test_the_plan_says_what_tokens_look_like(service: Running) -> None:
    """GetPlan describes an open dimension by its pattern and length, and a closed one by its values alone."""
    dimensions = {d.name: d for m in service.plan.metrics[:2] for d in m.dimensions}
    opened, closed = dimensions["app_version"], dimensions["platform"]
    assert (opened.open, opened.pattern, opened.max_length, list(opened.values)) == (True, r"^\d+\.\d+$", 8, [])
    assert (closed.open, closed.pattern, closed.max_length, list(closed.values)) == (False, "", 0, ["ios", "android"])
    assert first_series(service, "setup") == first_series(service, "joins") + 2 * 2


def test_what_a_recorder_counts_stands_in_the_log(service: Running) -> None:
    """Each value of an open dimension is a partition of its own, beside closed ones, and is durable when it is taken."""
    recorder = service.client.recorder(UNIT)
    for version, count in (("1.0", 1), ("2.0", 5), ("1.0", 2)):
        recorder.count("joins", count, platform="android", app_version=version, network="cellular")
    recorder.count("joins", 7, platform="ios", app_version="2.0", network="wifi")
    recorder.observe("setup", 50, word="日本 2.0")
    recorder.observe("setup", 60, word="日本 2.0")
    recorder.observe("setup", 5, word="")
    recorder.count("starts", 3, platform="android")
    sent = finish(recorder, NOW)
    assert (len(sent.token), len(sent.point_token)) == (4, len(sent.series))
    assert service.client.submit([sent]).accepted == 1
    joins, setup, starts = (first_series(service, m) for m in ("joins", "setup", "starts"))
    assert set(in_log(service)[sent.report_id]) == {
        (joins + 3, 3, b"1.0"),
        (joins + 3, 5, b"2.0"),
        (joins, 7, b"2.0"),
        (setup + 1, 2, "日本 2.0".encode()),
        (setup + 3, 110, "日本 2.0".encode()),
        (setup, 1, b""),
        (setup + 3, 5, b""),
        (starts + 1, 3, None),
    }
    again = recorder.report(NOW - 1, NOW)
    assert again is None


def test_messages_that_are_committed_together_keep_their_tokens(service: Running) -> None:
    """Reports with the same tokens under other numbers, with others, and with none are read back as they were sent."""
    reports = [
        report(service, [("joins", 1), ("joins", 2)], ["1.0", "2.0"]),
        report(service, [("joins", 2), ("joins", 1)], ["2.0", "1.0"]),
        report(service, [("starts", 0)]),
        report(service, [("starts", 0)], point_token=[]),
        report(service, [("starts", 0), ("joins", 1)], ["3.0"]),
    ]
    answers = list(service.client.stream([[r] for r in reports]))
    assert [a.accepted for a in answers] == [1] * 5
    stored = in_log(service)
    tokens = [[token for *_, token in stored[r.report_id]] for r in reports]
    assert tokens == [[b"1.0", b"2.0"], [b"1.0", b"2.0"], [None], [None], [None, b"3.0"]]


BAD: list[tuple[str, Sequence[tuple[str, int]], Sequence[str], Mapping[str, object]]] = [
    ("none on an open metric", [("joins", 0)], [], {}),
    ("no column at all", [("joins", 0)], [], {"point_token": []}),
    ("one on a closed metric", [("starts", 1)], [MARK], {}),
    ("not the pattern", [("joins", 1)], ["x" + MARK], {}),
    ("the pattern in its middle", [("joins", 1)], [MARK + "!"], {}),
    ("a line behind it", [("joins", 1)], [MARK + "\n"], {}),
    ("empty", [("joins", 1)], [""], {}),
    ("too long", [("joins", 1)], [MARK + "00"], {}),
    ("longer than any", [("setup", 1)], [MARK + "0" * limits.TOKEN_MAX_BYTES], {}),
    ("very much longer", [("setup", 1)], [MARK + "0" * 2**20], {}),
    ("a control character", [("setup", 1)], [MARK + "\t"], {}),
    ("a later control character", [("setup", 1)], [MARK + "\x85"], {}),
    ("a zero byte", [("setup", 1)], [MARK + "\0"], {}),
    ("beyond the table", [("joins", 1), ("joins", 2)], [MARK], {}),
    ("far beyond the table", [("joins", 2**32 - 1)], [], {}),
    ("one bad of two", [("joins", 1), ("joins", 2)], ["1.0", MARK + "-"], {}),
    ("one missing of two", [("joins", 1), ("joins", 0)], [MARK], {}),
    ("of another metric's dimension", [("setup", 1), ("joins", 1)], ["word"], {}),
]


@pytest.mark.parametrize(("points", "tokens", "changes"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_token_is_refused_alone(
    service: Running, points: Sequence[tuple[str, int]], tokens: Sequence[str], changes: Mapping[str, object]
) -> None:
    """A report with a bad token is BAD_TOKEN, and neither shown nor stored; the same good one beside it is taken."""
    good = report(service, [("joins", 1), ("setup", 2), ("starts", 0)], ["1.0", "word"])
    bad = report(service, points, tokens, **changes)
    alone = service.client.validate([bad])
    answer = submitted(service, [good, bad, report(service, [("joins", 1)], [MARK])])
    assert (answer.accepted, reasons(answer), reasons(alone)) == (2, {1: "BAD_TOKEN"}, {0: "BAD_TOKEN"})
    (rejection,) = answer.rejections
    assert "the pattern and no longer than the max_length that GetPlan states" in rejection.message
    assert MARK not in rejection.message
    stored = in_log(service)
    assert [token for *_, token in stored[good.report_id]] == [b"1.0", b"word", None]
    assert bad.report_id not in stored


def test_the_length_of_a_token_is_counted_in_characters(service: Running) -> None:
    """64 characters of four bytes each are taken where the plan allows 64; one character more, of any width, is not."""
    longest = "\U0001f600" * limits.TOKEN_MAX_LENGTH
    assert len(longest.encode()) == limits.TOKEN_MAX_BYTES
    answer = submitted(service, [report(service, [("setup", 1)], [t]) for t in (longest, longest[1:] + "ab", "a" * 65)])
    assert reasons(answer) == {1: "BAD_TOKEN", 2: "BAD_TOKEN"}


MALFORMED: list[tuple[Mapping[str, object], str]] = [
    ({"token": ["1.0"], "point_token": []}, "an entry that no point names"),
    ({"token": ["1.0", "2.0"], "point_token": [2]}, "an entry that no point names"),
    ({"token": ["1.0"], "point_token": [0]}, "an entry that no point names"),
    ({"series": [1, 1], "value": [1, 1], "token": ["1.0", "2.0"], "point_token": [2, 2]}, "an entry that no point names"),
    ({"series": [1, 1], "value": [1, 1], "token": ["1.0", "1.0"], "point_token": [1, 2]}, "each token once"),
    ({"token": ["1.0"], "point_token": [1, 1]}, "must be absent or as long as series"),
    ({"token": ["1.0"], "point_token": [0, 1]}, "must be absent or as long as series"),
]


@pytest.mark.parametrize(("changes", "told"), MALFORMED)
def test_a_table_that_points_do_not_use_up_is_malformed(service: Running, changes: Mapping[str, object], told: str) -> None:
    """Nothing comes in beside what points say: idle or repeated tokens and columns of another length are refused."""
    answer = submitted(service, [report(service, [("joins", 0)], **changes), report(service, [("joins", 1)], ["1.0"])])
    assert (answer.accepted, reasons(answer)) == (1, {0: "MALFORMED"})
    assert told in answer.rejections[0].message


def test_a_report_has_so_many_tokens_and_no_more(service: Running) -> None:
    """As many tokens as a report may have are taken; with one more it is malformed, and told to be split."""
    most = limits.TOKENS_PER_REPORT_MAX
    reports = [
        report(service, [("joins", i + 1) for i in range(count)], [f"{i}.0" for i in range(count)])
        for count in (most, most + 1)
    ]
    answer = submitted(service, reports)
    assert (answer.accepted, reasons(answer)) == (1, {1: "MALFORMED"})
    assert f"at most {most} tokens; split the report" in answer.rejections[0].message


def test_encodings_of_tokens(service: Running) -> None:
    """Split runs are whole and unknown fields are ignored; unpacked numbers are malformed, and other bytes are no text."""
    series = first_series(service, "setup")
    bare = report(service, [], series=[series, series], value=[1, 1])
    one = (1).to_bytes(4, "little")
    token = packed(9, b"word")
    assert submit_bytes(service, message_of(bare, token + packed(10, one, one))).accepted == 1
    assert (
        submit_bytes(service, message_of(bare, packed(10, one) + token + packed(10, one) + packed(99, b"?"))).accepted == 1
    )
    unpacked = varint(10 << 3 | 5) + one
    for fields, reason, told in (
        (token + unpacked + unpacked, 1, "must be packed"),
        (token + packed(10, one + one) + unpacked, 1, "must be packed"),
        (token + packed(10, one + one[:3]), 1, "must be absent or as long as series"),
        (packed(9, b"\xff") + packed(10, one + one), 12, "UTF-8"),
        (packed(9, b"\xed\xa0\x80") + packed(10, one + one), 12, "UTF-8"),
        (packed(9, b"\xc0\x80") + packed(10, one + one), 12, "UTF-8"),
    ):
        (rejection,) = submit_bytes(service, message_of(bare, fields)).rejections
        assert rejection.reason == reason
        assert told in rejection.message


def test_a_sum_is_judged_by_the_events_of_its_own_token(service: Running) -> None:
    """Events under one token do not allow a larger sum under another."""
    series = first_series(service, "setup")
    fields = {"series": [series, series + 3], "value": [2, 1_500], "token": ["a"]}
    same = report(service, [], **(fields | {"point_token": [1, 1]}))
    apart = report(service, [], **(fields | {"token": ["a", "b"], "point_token": [1, 2]}))
    assert reasons(submitted(service, [same, apart])) == {1: "VALUE_OUT_OF_RANGE"}


def test_matching_takes_linear_time(tmp_path: Path) -> None:
    """A pattern on which backtracking engines take years judges many long tokens at once."""
    plan = OPEN_DIMENSIONS.replace(r"'^\d+\.\d+$'", "'(a+)+b'").replace("max_length: 8", "max_length: 64")
    with serving(tmp_path / "state", plan=plan) as service:
        service.consent(UNIT, tuning=True)
        service.clock.advance_to(NOW)
        tokens = ["a" * 60 + f"{i:04}" for i in range(1_000)]
        bad = report(service, [("joins", i + 1) for i in range(1_000)], tokens)
        good = report(service, [("joins", 1)], ["a" * 63 + "b"])
        assert reasons(submitted(service, [bad, good])) == {0: "BAD_TOKEN"}


def test_tokens_survive_a_restart(tmp_path: Path) -> None:
    """What was acknowledged is read back after the service has gone, from segments that were closed and compacted."""
    state = tmp_path / "state"
    with serving(state, plan=OPEN_DIMENSIONS) as service:
        service.consent(UNIT, tuning=True)
        service.clock.advance_to(NOW)
        sent = report(service, [("joins", 1), ("starts", 0)], ["4.2"], report_id=os.urandom(16))
        assert submitted(service, [sent]).accepted == 1
        context = service.context
    ((start, segment, frames),) = [
        (int(path.parent.name), path.stem, context.log.count_frames(int(path.parent.name), path.stem))
        for path in (state / "log").rglob("*.frames")
        if context.log.count_frames(int(path.parent.name), path.stem)
    ]
    context.log.compact(start, segment, frames)
    (row,) = said(context.log.read(start, [segment], 0, 0))
    joins, starts = first_series(service, "joins"), first_series(service, "starts")
    assert row[1] == sent.report_id
    assert row[-1] == ((joins, 1, b"4.2"), (starts, 1, None))
