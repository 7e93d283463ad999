"""Questions over real sockets: answers are what was sent, nothing is added up unlawfully, refusals help."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import grpc
import pytest

from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.query.v1 import query_pb2_grpc
from hushmeter.errors import LedgerBroken
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import PATIENCE_S
from tests.service.calls import GET_CONSENT, GET_LEDGER, GET_PLAN, LIST_METRICS, QUERY_RELEASES, SET_CONSENT
from tests.service.harness import H, agree, finish, hour_of, read, serving
from tests.service.running_service import Running

DECLARED = ["joins", "setup", "drift", "crashed", "theme", "short_lived"]
HOURS = 73
"""Of the first three days and an hour: what `service` has released at 1h."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that has released one day: two units in its first hour, one of them in its third, too."""
    with serving(tmp_path_factory.mktemp("query") / "state") as service:
        agree(service, "u", "v")
        for hour in (0, 2):
            end = H + hour * HOUR_MS + 30 * MINUTE_MS
            service.clock.advance_to(end)
            reports = []
            for unit, platform in (("u", "ios"), ("v", "web"))[: 2 - hour // 2]:
                recorder = service.client.recorder(unit)
                recorder.count("joins", 3, platform=platform, network="wifi")
                recorder.count("joins", 4 if unit == "u" else 8, platform=platform, network="cellular")
                recorder.observe("setup", 10, platform=platform, network="wifi")
                recorder.observe("setup", 100.5, platform=platform, network="wifi")
                recorder.count("drift", -7 if unit == "u" else 2, platform=platform, network="wifi")
                recorder.flag("crashed", unit == "u", platform=platform, network="wifi")
                recorder.choose("theme", "dark")
                reports.append(finish(recorder, end))
            assert service.client.submit(reports).accepted == len(reports)
        service.advance(H + HOURS * HOUR_MS + 10 * MINUTE_MS)
        yield service


def ledger_of(service: Running) -> list[LedgerEntry]:
    return [LedgerEntry(e.sequence, e.content, e.previous_hash, e.entry_hash) for e in service.analyst.ledger()]


def raw_query(service: Running, **fields: object) -> list[object]:
    with grpc.insecure_channel(service.target) as channel:
        stub = query_pb2_grpc.QueryServiceStub(channel)
        answers = list(stub.QueryReleases(pb.QueryReleasesRequest(**fields)))  # type: ignore[arg-type]
        return [release for answer in answers for release in answer.releases]


def test_what_can_be_asked_is_listed(service: Running) -> None:
    """The listing names every metric of the plan with its views, resolutions and statistics, and each has an answer."""
    listed = service.analyst.metrics()
    assert [m.name for m in listed.metrics] == [*DECLARED, "participants"]
    assert list(listed.metrics[3].purposes) == ["tuning", "research"]
    assert listed.metrics[1].kind == "distribution"
    assert listed.metrics[1].unit == "ms"
    assert 0 < listed.budget.rho < listed.budget.epsilon
    for metric in listed.metrics:
        for view, resolution in itertools.product(metric.views, metric.resolutions):
            table = service.analyst.releases(metric.name, view.dimensions, resolution=resolution)
            assert set(table["statistic"].to_pylist()) == set(metric.statistics)
            assert table["metric"].to_pylist() == [metric.name] * table.num_rows


def test_values_are_what_was_sent(service: Running) -> None:
    """Without noise, each statistic of each view is what the reports add up to, in hours and in the day."""
    assert read(service, "joins", "sum", "1h") == {(0,): 18, (2,): 7}
    assert read(service, "joins", "sum", "1d") == {(0,): 25}
    assert read(service, "joins", "units", "1h") == {(0,): 2, (2,): 1}
    assert read(service, "joins", "units", "1d") == {(0,): 2}
    assert read(service, "joins", "sum", "1h", ["platform"]) == {(0, "ios"): 7, (0, "web"): 11, (2, "ios"): 7}
    assert read(service, "joins", "sum", "1d", ["platform", "network"]) == {
        (0, "ios", "wifi"): 6,
        (0, "ios", "cellular"): 8,
        (0, "web", "wifi"): 3,
        (0, "web", "cellular"): 8,
    }
    assert read(service, "setup", "events", "1d") == {(0,): 6}
    assert read(service, "setup", "sum", "1d") == {(0,): 331.5}
    assert read(service, "setup", "histogram", "1h") == {
        (0, "<= 10"): 2,
        (0, "> 100"): 2,
        (2, "<= 10"): 1,
        (2, "> 100"): 1,
    }
    assert read(service, "drift", "sum", "1h") == {(0,): -5, (2,): -7}
    assert read(service, "crashed", "rate", "1d") == {(0,): 0.5}
    assert read(service, "theme", "rate", "1d") == {(0, "dark"): 1}


def test_windows_come_in_order_over_many_messages(service: Running) -> None:
    """An answer of many messages holds every window once, in time order, each cell of the view in each."""
    rows = service.analyst.releases("joins", ["platform", "network"], resolution="1h", statistics=["sum"]).to_pylist()
    assert [hour_of(r) for r in rows] == [hour for hour in range(HOURS) for _ in range(6)]
    cells = [(r["platform"], r["network"]) for r in rows]
    assert cells == list(itertools.product(["ios", "android", "web"], ["wifi", "cellular"])) * HOURS
    assert len({r["release_id"] for r in rows}) == HOURS


def test_a_view_may_be_asked_in_any_order(service: Running) -> None:
    """The order of a view's dimensions in the question does not change the answer."""
    asked = [
        service.analyst.releases("joins", view, resolution="1d").to_pylist()
        for view in (["platform", "network"], ["network", "platform"])
    ]
    assert asked[0] == asked[1]


def test_a_time_range_is_of_window_ends(service: Running) -> None:
    """A range holds the windows that end after its start and at or before its end; moments and milliseconds agree."""

    def hours(start: object, end: object) -> list[int]:
        table = service.analyst.releases("drift", resolution="1h", start=start, end=end)  # type: ignore[arg-type]
        return [hour_of(r) for r in table.to_pylist()]

    assert hours(H + HOUR_MS, H + 3 * HOUR_MS) == [1, 2]
    assert hours(H + HOUR_MS - 1, H + 3 * HOUR_MS - 1) == [0, 1]
    assert hours(None, H + HOUR_MS) == [0]
    assert hours(H + 71 * HOUR_MS, None) == [71, 72]
    begin = dt.datetime.fromtimestamp(H / 1000, dt.UTC)
    assert hours(begin, begin + dt.timedelta(hours=2)) == [0, 1]
    assert hours(H + 80 * HOUR_MS, None) == []


def test_filters_keep_what_they_name(service: Running) -> None:
    """Several values of one dimension are alternatives; filters of two dimensions must both hold."""

    def kept(**where: object) -> set[tuple[str, str]]:
        table = service.analyst.releases("joins", ["platform", "network"], resolution="1d", where=where)  # type: ignore[arg-type]
        return {(r["platform"], r["network"]) for r in table.to_pylist()}

    assert kept(platform=["ios", "web"]) == set(itertools.product(["ios", "web"], ["wifi", "cellular"]))
    assert kept(platform=["ios", "web"], network="wifi") == {("ios", "wifi"), ("web", "wifi")}
    assert kept(network="wifi") == {("ios", "wifi"), ("android", "wifi"), ("web", "wifi")}


def test_two_filters_of_one_dimension_are_both_heard(service: Running) -> None:
    """Two filters of the same dimension are refused, or alternatives, or must both hold: neither is dropped in silence."""
    filters = [pb.PartitionFilter(dimension="platform", values=[v]) for v in ("ios", "android")]
    try:
        (release,) = raw_query(
            service, metric="joins", view=["platform"], resolution="1d", statistics=["sum"], filters=filters
        )
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017
    else:
        assert {e.partition[0] for e in release.estimates} in (set(), {"ios", "android"})  # type: ignore[attr-defined]


def test_a_subset_of_statistics_is_answered_alone(service: Running) -> None:
    """Only what was asked for is told, in the plan's order, with the values and the cost of the whole release."""
    every = service.analyst.releases("setup", resolution="1d").to_pylist()
    some = service.analyst.releases("setup", resolution="1d", statistics=["histogram", "units"]).to_pylist()
    assert some == [r for r in every if r["statistic"] in {"units", "histogram"}]
    assert [r["statistic"] for r in some] == ["units", "histogram", "histogram", "histogram"]


@pytest.mark.parametrize(("metric", "statistic"), [("joins", "sum"), ("setup", "events"), ("setup", "histogram")])
def test_a_roll_up_is_the_sum_of_its_windows(service: Running, metric: str, statistic: str) -> None:
    """A roll-up over time is the sum of its windows, noise adds up as variances, costs as rho; its id is zero."""
    options = {"resolution": "1h", "statistics": [statistic], "end": H + DAY_MS}
    apart = service.analyst.releases(metric, ["platform"], **options).to_pylist()  # type: ignore[arg-type]
    rolled = service.analyst.releases(metric, ["platform"], roll_up_time=True, **options).to_pylist()  # type: ignore[arg-type]
    for row in rolled:
        parts = [p for p in apart if (p["platform"], p["component"]) == (row["platform"], row["component"])]
        assert row["value"] == sum(p["value"] for p in parts)
        assert row["noise_std"] ** 2 == pytest.approx(sum(p["noise_std"] ** 2 for p in parts))
        assert row["rho"] == pytest.approx(sum(p["rho"] for p in parts))
        assert max(p["epsilon"] for p in parts) < row["epsilon"] < sum(p["epsilon"] for p in parts)
        assert (row["rolled_up_from"], row["release_id"]) == (24, 0)
        assert row["window_end"] - row["window_start"] == dt.timedelta(days=1)
    assert len(rolled) * 24 == len(apart)
    assert sum(r["value"] for r in rolled) > 0


def test_a_roll_up_without_names_leaves_out_what_cannot_be_added(service: Running) -> None:
    """Where no statistic is named, a roll-up answers those that add up, and units are not among them (E2)."""
    rolled = service.analyst.releases("joins", resolution="1h", roll_up_time=True).to_pylist()
    assert {r["statistic"] for r in rolled} == {"sum"}
    assert service.analyst.releases("joins", resolution="1h", start=H + 90 * HOUR_MS, roll_up_time=True).num_rows == 0


REFUSED: list[tuple[dict[str, object], list[str]]] = [
    ({"metric": "join"}, ["did you mean joins", "setup"]),
    ({"metric": "zzz"}, ["joins, setup, drift, crashed, theme, short_lived"]),
    ({"metric": ""}, ["joins, setup"]),
    ({"view": ["colour"]}, ["colour", "platform, network"]),
    ({"view": ["network"]}, ["not released by [network]", "[platform, network]", "Add the view to the plan"]),
    ({"metric": "theme", "view": ["platform"], "resolution": "1d"}, ["no dimensions"]),
    ({"resolution": "1w"}, ["1w", "1h, 1d"]),
    ({"resolution": ""}, ["1h, 1d"]),
    ({"metric": "theme"}, ["released at 1d"]),
    ({"statistics": ["median"]}, ["median", "units, sum"]),
    ({"statistics": ["sum", "units"], "roll_up_time": True}, ["units of several windows", "sum can", "resolution 1d"]),
    ({"metric": "crashed", "statistics": ["rate"], "roll_up_time": True}, ["rate", "none of its statistics"]),
    ({"metric": "crashed", "roll_up_time": True}, ["cannot be added up", "resolution 1d"]),
    ({"view": ["platform"], "where": {"platform": "windows"}}, ["windows", "ios, android, web"]),
    ({"where": {"platform": "ios"}}, ["only dimensions of the view [] can be filtered"]),
    ({"start": H + 2, "end": H + 1}, ["begin before it ends"]),
    ({"start": -1, "end": -1}, ["begin before it ends"]),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=lambda v: str(v)[:60])
def test_a_question_without_an_answer_says_what_to_ask(
    service: Running, changes: dict[str, object], told: list[str]
) -> None:
    """A refused question is INVALID_ARGUMENT, names what is wrong and what is allowed, and no row is sent before."""
    with pytest.raises(grpc.RpcError) as caught:
        service.analyst.releases(**({"metric": "joins", "resolution": "1h"} | changes))  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for words in told:
        assert words in caught.value.details()


def test_a_finer_resolution_is_no_way_round(service: Running) -> None:
    """A roll-up that is refused at the coarsest resolution points to no other: hours do not measure units of many days."""
    with pytest.raises(grpc.RpcError) as caught:
        service.analyst.releases("joins", resolution="1d", statistics=["units"], roll_up_time=True)
    assert "of several windows cannot be added up" in caught.value.details()
    assert "resolution" not in caught.value.details()


def test_each_release_states_what_it_cost(service: Running) -> None:
    """The rho of a release is what the ledger was charged for it, at most; delta is the plan's, epsilon follows."""
    charged: dict[tuple[object, ...], Fraction] = {}
    for entry in ledger_of(service):
        f = entry.fields
        key = (f["metric"], tuple(f["view"]), f["resolution"], f["window_start_ms"])  # type: ignore[arg-type]
        charged[key] = charged.get(key, Fraction(0)) + Fraction(str(f["loss"]))
    told = set()
    for metric in service.analyst.metrics().metrics:
        for view, resolution in itertools.product(metric.views, metric.resolutions):
            for r in service.analyst.releases(metric.name, view.dimensions, resolution=resolution).to_pylist():
                key = (metric.name, tuple(view.dimensions), resolution, H + hour_of(r) * HOUR_MS)
                assert r["rho"] == pytest.approx(float(charged[key]), rel=1e-9)
                assert r["delta"] == pytest.approx(1e-8, rel=1e-15)
                assert Fraction(r["delta"]) <= Fraction("1e-8"), "never above what the plan says"
                assert 0 < r["rho"] < r["epsilon"] < 4
                assert r["interval_low"] <= r["value"] <= r["interval_high"]
                told.add(key)
    assert told == set(charged)


def test_the_ledger_that_is_served_holds(service: Running) -> None:
    """The chain verifies, fits the budget, can be read from any entry on, and shows a single altered character."""
    entries = ledger_of(service)
    summary = verify_chain(entries)
    verify_budget(summary, service.context.deployment.budget)
    assert summary.count == len(entries) > 500
    assert summary.head_hash == entries[-1].entry_hash
    assert [e.sequence for e in service.analyst.ledger(len(entries) - 2)] == [len(entries) - i for i in (2, 1, 0)]
    assert list(service.analyst.ledger(len(entries) + 1)) == []
    altered = replace(entries[7], content=entries[7].content.replace('"loss":"', '"loss":"1'))
    with pytest.raises(LedgerBroken, match="entry 8 was altered"):
        verify_chain([*entries[:7], altered, *entries[8:]])
    with pytest.raises(LedgerBroken, match="entry 8 is missing"):
        verify_chain(entries[:7] + entries[8:])


@pytest.mark.parametrize("sequence", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_ledger_is_empty_after_its_end(service: Running, sequence: int) -> None:
    """Any number that the message can carry is answered: beyond the newest entry there is nothing, and no defect."""
    assert list(service.analyst.ledger(sequence)) == []


@pytest.mark.parametrize(
    "method",
    [GET_PLAN, SET_CONSENT, GET_CONSENT, LIST_METRICS, QUERY_RELEASES, GET_LEDGER],
    ids=lambda method: method.removeprefix("/hushmeter.api."),
)
def test_bytes_that_are_no_message_are_answered(service: Running, method: str) -> None:
    """Every other method, too, says INVALID_ARGUMENT to bytes that are no message of it: it is the caller's fault."""
    with grpc.insecure_channel(service.target) as channel:
        call = channel.unary_stream(method)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(b"\x0a\xff", timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value


def test_a_whole_period_spends_no_more_than_its_budget(service: Running) -> None:
    """A week's charges are at most its budget, and all of it but what the expired metric leaves unspent (C3)."""
    service.advance(H + 7 * DAY_MS + HOUR_MS)
    service.advance(H + 9 * DAY_MS)
    entries = ledger_of(service)
    summary = verify_chain(entries)
    budget = service.context.deployment.budget
    verify_budget(summary, budget)
    of_week = [e.fields for e in entries if e.fields["period_start_ms"] == H]
    unspent = {"1h": 168, "1d": 7}
    spent = summary.by_period[H].amount
    for resolution, windows in unspent.items():
        short = [f for f in of_week if (f["metric"], f["resolution"]) == ("short_lived", resolution)]
        paid = {f["window_start_ms"] for f in short}
        price = sum(Fraction(str(f["loss"])) for f in short if f["window_start_ms"] == H)
        spent += price * (windows - len(paid))
        assert 0 < len(paid) < windows
    assert spent == budget.loss.amount
    rows = service.analyst.releases("drift", resolution="1h", end=H + 7 * DAY_MS).to_pylist()
    assert [hour_of(r) for r in rows] == list(range(7 * 24))
    assert {e["mechanism"] for e in of_week} == {"discrete_gaussian"}
