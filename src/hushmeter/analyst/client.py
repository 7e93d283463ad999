"""The client that ML teams use: private statistics as Arrow tables, from there to pandas, Polars or NumPy."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType

import grpc
import pyarrow as pa

from hushmeter.analyst.verifying import VerifiedReleases, verified
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.query.v1 import query_pb2_grpc
from hushmeter.api.release.v1.release_pb2 import Estimate, Release
from hushmeter.channels import ClientIdentity, open_channel
from hushmeter.model.ledger import LedgerEntry
from hushmeter.transparency.html import record_in
from hushmeter.transparency.signing import SIGNED_RECORD, entries_in, verify_record

Moment = dt.datetime | int | None
ANSWER_MAX_BYTES = 64 * 2**20

_IN_UNITS = frozenset({"sum", "mean", "quantiles", "ratio", "numerator"})
"""The statistics that are in the metric's unit; a variance is in its square, the others are counts and shares."""

_FIXED = (
    ("metric", pa.dictionary(pa.int32(), pa.string())),
    ("resolution", pa.dictionary(pa.int32(), pa.string())),
    ("window_start", pa.timestamp("ms", "UTC")),
    ("window_end", pa.timestamp("ms", "UTC")),
)
_NUMBERS = (
    ("statistic", pa.dictionary(pa.int32(), pa.string())),
    ("component", pa.dictionary(pa.int32(), pa.string())),
    ("value", pa.float64()),
    ("noise_std", pa.float64()),
    ("interval_low", pa.float64()),
    ("interval_high", pa.float64()),
    ("unit", pa.dictionary(pa.int32(), pa.string())),
    ("selected", pa.bool_()),
    ("consistent_value", pa.float64()),
    ("consistent_std", pa.float64()),
    ("consistent_low", pa.float64()),
    ("consistent_high", pa.float64()),
    ("consistent_as_of", pa.timestamp("ms", "UTC")),
    ("rho", pa.float64()),
    ("epsilon", pa.float64()),
    ("delta", pa.float64()),
    ("completeness", pa.float64()),
    ("plan_version", pa.int32()),
    ("release_id", pa.int64()),
    ("rolled_up_from", pa.int32()),
    ("max_windows", pa.int32()),
    ("purposes", pa.dictionary(pa.int32(), pa.string())),
)


class AnalystClient:
    """A connection to a hushmeter service, for analysts.

    Args:
        target: `host:port`.
        credentials: of the channel; None for what `identity` says.
        identity: certificates, and the credential, of role `analyst`; the environment's HUSHMETER_CREDENTIAL by default.

    Raises:
        ConfigError: a file cannot be used, or a credential would be sent in plain text to another machine.

    Example:
        >>> with AnalystClient("127.0.0.1:50551") as analyst:
        ...     calls = analyst.releases("calls", ["platform"], resolution="1h", statistics=["units"])
        >>> calls["platform"].to_pylist()
        ['ios', 'android', 'mac', 'windows', 'linux', 'web']
        >>> round(calls["noise_std"][0].as_py())  # standard deviation of the noise in `value`, in accounts
        96
    """

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None = None, *, identity: ClientIdentity | None = None
    ) -> None:
        options = [("grpc.max_receive_message_length", ANSWER_MAX_BYTES)]
        self._channel = open_channel(target, identity, credentials, options)
        self._stub = query_pb2_grpc.QueryServiceStub(self._channel)

    def __enter__(self) -> AnalystClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()

    def metrics(self) -> pb.ListMetricsResponse:
        """What can be asked for, and the budget in force.

        Example:
            >>> answer = analyst.metrics()
            >>> [(metric.name, list(metric.statistics)) for metric in answer.metrics[:1]]
            [('calls', ['units', 'sum'])]
            >>> answer.budget.period, answer.budget.epsilon
            ('1w', 4.0)
        """
        answer: pb.ListMetricsResponse = self._stub.ListMetrics(pb.ListMetricsRequest())
        return answer

    def releases(
        self,
        metric: str,
        view: Sequence[str] = (),
        *,
        resolution: str,
        start: Moment = None,
        end: Moment = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
        statistics: Iterable[str] = (),
        roll_up_time: bool = False,
    ) -> pa.Table:
        """Private estimates as a table with a row for each estimate, in time order.

        Args:
            metric: the metric.
            view: dimensions to group by; none is the total.
            resolution: for example `1d`.
            start: windows that end after this moment: a datetime with a time zone, or milliseconds since the Unix epoch.
            end: windows that end at or before this moment.
            where: dimension to the value, or values, to keep.
            statistics: to answer; none means all.
            roll_up_time: add all windows up; refused for statistics of which windows cannot be added up.

        Returns:
            Columns metric, resolution, window_start, window_end, one a dimension of the view (`by_metric` where a dimension
            is called as another column is, such as that of `capped`), statistic, component, value, noise_std, interval_low,
            interval_high, unit, selected, consistent_value, consistent_std, consistent_low, consistent_high,
            consistent_as_of (null where no identity between views is exact), rho, epsilon, delta, completeness,
            plan_version, release_id, rolled_up_from, max_windows, purposes (with commas).

        Raises:
            ValueError: a datetime has no time zone.
            grpc.RpcError: the question is refused; its details say what to ask instead.

        Example:
            >>> where = {"platform": ["ios", "android"]}
            >>> calls = analyst.releases("calls", ["platform"], resolution="1h", where=where)
            >>> [(row["platform"], row["statistic"], row["unit"]) for row in calls.to_pylist()]
            [('ios', 'units', ''), ('android', 'units', ''), ('ios', 'sum', 'calls'), ('android', 'sum', 'calls')]
        """
        filters = [
            pb.PartitionFilter(dimension=name, values=[values] if isinstance(values, str) else list(values))
            for name, values in (where or {}).items()
        ]
        request = pb.QueryReleasesRequest(
            metric=metric,
            view=view,
            resolution=resolution,
            from_ms=_ms(start),
            to_ms=_ms(end),
            filters=filters,
            statistics=statistics,
            roll_up_time=roll_up_time,
        )
        return table_of(r for answer in self._stub.QueryReleases(request) for r in answer.releases)

    def verify(
        self,
        metric: str,
        view: Sequence[str] = (),
        *,
        resolution: str,
        start: Moment = None,
        end: Moment = None,
        record: str | None = None,
        public_key: bytes | None = None,
    ) -> VerifiedReleases:
        """Checks releases of a view against the ledger, which commits to them: a changed release does not hold.

        Args:
            metric: the metric; its releases are asked for whole.
            view: dimensions to group by; none is the total.
            resolution: for example `1d`.
            start: windows that end after this moment, as in `releases`.
            end: windows that end at or before this moment.
            record: text of the public record (JSON, or the page that carries it); None takes the ledger of the service.
            public_key: Ed25519 key, 32 bytes, that must have signed the record; None takes the key in the record.

        Returns:
            How many releases hold, and how many are older than the public ledger, so that they cannot be verified.

        Raises:
            LedgerBroken: naming the first window that does not hold, or what is wrong with the ledger or the record.
            grpc.RpcError: the question is refused; its details say what to ask instead.

        Example:
            >>> analyst.verify("calls", ["platform"], resolution="1h").verified
            1
        """
        if record is None:
            entries = [LedgerEntry(e.sequence, e.content, e.previous_hash, e.entry_hash) for e in self.ledger()]
        else:
            text = record_in(record)
            verify_record(text, public_key)
            entries = entries_in(json.loads(text)[SIGNED_RECORD.name])
        request = pb.QueryReleasesRequest(
            metric=metric, view=view, resolution=resolution, from_ms=_ms(start), to_ms=_ms(end), openings=True
        )
        releases = (r for answer in self._stub.QueryReleases(request) for r in answer.releases)
        return verified(releases, entries)

    def ledger(self, from_sequence: int = 1) -> Iterator[pb.LedgerEntry]:
        """The entries of the privacy ledger that are public, in order; `hushmeter ledger verify` checks their chain.

        Example:
            >>> entry = next(analyst.ledger())
            >>> charged = json.loads(entry.content)
            >>> charged["metric"], charged["measurement"], charged["mechanism"]
            ('calls', 'units', 'discrete_gaussian')
        """
        for answer in self._stub.GetLedger(pb.GetLedgerRequest(from_sequence=from_sequence)):
            yield from answer.entries


def table_of(releases: Iterable[Release]) -> pa.Table:
    """Releases of one view as a table (see `AnalystClient.releases`).

    Example:
        >>> from hushmeter.api.release.v1.release_pb2 import Estimate, Release
        >>> units = Estimate(statistic="units", value=812, noise_std=96.1, interval_low=623, interval_high=1001)
        >>> table = table_of([Release(metric="calls", resolution="1h", estimates=[units])])
        >>> table.select(["metric", "value", "interval_low"]).to_pylist()
        [{'metric': 'calls', 'value': 812.0, 'interval_low': 623.0}]
    """
    rows: list[tuple[object, ...]] = []
    dimensions: tuple[str, ...] = ()
    for release in releases:
        dimensions = tuple(release.view)
        head = (release.metric, release.resolution, release.window_start_ms, release.window_end_ms)
        loss = release.privacy_loss
        tail = (
            loss.rho,
            loss.epsilon,
            loss.delta,
            release.completeness,
            release.plan_version,
            release.release_id,
            release.rolled_up_from,
            release.max_windows,
            ", ".join(release.purposes),
        )
        rows.extend(
            (
                *head,
                *e.partition,
                e.statistic,
                e.component,
                e.value,
                e.noise_std,
                e.interval_low,
                e.interval_high,
                _unit(release.unit, e.statistic),
                e.selected,
                *_agreement(e),
                *tail,
            )
            for e in release.estimates
        )
    fields = [*_FIXED, *((name, pa.dictionary(pa.int32(), pa.string())) for name in _columns_of(dimensions)), *_NUMBERS]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    arrays = [_array(values, kind) for values, (_, kind) in zip(columns, fields, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))


def _columns_of(dimensions: Sequence[str]) -> list[str]:
    """The names of dimensions' columns: `by_NAME` where another column has that name already."""
    names = [name for name, _ in (*_FIXED, *_NUMBERS)]
    for dimension in dimensions:
        column = dimension
        while column in names:
            column = f"by_{column}"
        names.append(column)
    return names[len(_FIXED) + len(_NUMBERS) :]


def _agreement(estimate: Estimate) -> tuple[object, ...]:
    if not estimate.HasField("agreement"):
        return (None,) * 5
    a = estimate.agreement
    return a.value, a.noise_std, a.interval_low, a.interval_high, a.as_of_ms


def _unit(unit: str, statistic: str) -> str:
    if statistic == "variance":
        return f"{unit}^2" if unit else ""
    return unit if statistic in _IN_UNITS else ""


def _array(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)


def _ms(moment: Moment) -> int:
    if moment is None:
        return 0
    if isinstance(moment, int):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; write one such as datetime(..., tzinfo=timezone.utc)")
    return int(moment.timestamp() * 1000)
