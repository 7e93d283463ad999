"""Stage 1: reports are admitted or rejected, each on its own, with the first reason that applies.

Pure: the clock's reading, consent and keys come in as values and functions. Nothing about one report depends on another
(P1), and an admitted report is never dropped later because of another unit's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hushmeter import limits
from hushmeter.ingest.columns import PlanColumns
from hushmeter.ingest.raw import RawReports
from hushmeter.model.arrays import Bool, Int64
from hushmeter.model.plan import Plan
from hushmeter.model.report import Rejection, RejectionReason, ReportBatch, gathered, pairs_of, pruned_tokens

_BAD_REPORT_ID = "report_id must be 16 random bytes; draw them once for each report"
_NO_POINTS = "the report has no points; send only those that have some"
_TEXTS = {
    RejectionReason.BAD_UNIT_ID: (
        f"unit_id must be 1 to {limits.UNIT_ID_MAX_BYTES} bytes of UTF-8; send a stable identifier of the device or account"
    ),
    RejectionReason.TOO_LARGE: (
        f"the report has more than {limits.POINTS_PER_REPORT_MAX} points; split it in parts with report_ids of their own"
    ),
    RejectionReason.BAD_INTERVAL: (
        "the interval must start before it ends, after 1970, and be no longer than the plan's longest window ({longest}); "
        "report more often"
    ),
    RejectionReason.IN_FUTURE: (
        f"the interval ends more than {limits.CLOCK_SKEW_MAX_MS // 1000} s after the server's clock; "
        "correct the client's clock by server_time_ms"
    ),
    RejectionReason.BAD_UNIT_TOKEN: (
        "unit_token is missing, expired, damaged, or another unit's; fetch a new one for this unit with "
        "ConsentService.IssueUnitToken and send the report again"
    ),
    RejectionReason.RATE_LIMITED: (
        "the unit sends more reports than one unit may in a minute; send the report again unchanged after retry_after_ms, "
        "and report longer intervals"
    ),
    RejectionReason.UNKNOWN_PLAN_VERSION: "plan version unknown; the version in force is {version}: call GetPlan",
    RejectionReason.UNKNOWN_SERIES: (
        "a series number that plan version {version}, or the one in force when the interval ended, lacks; call GetPlan"
    ),
    RejectionReason.EXPIRED_METRIC: (
        "a metric in the report has passed its expiry date in the plan, or a newer plan removes it, or the interval ends "
        "after that; stop sending it"
    ),
    RejectionReason.VALUE_OUT_OF_RANGE: (
        f"a value outside its metric's range; counts are 0 to {limits.COUNT_PER_POINT_MAX}, totals and sums lie in "
        "the range that GetPlan states (a sum, times its number of events; a numerator, times its denominator): clamp "
        "before sending"
    ),
    RejectionReason.BAD_TOKEN: (
        "each point of a metric with an open dimension names one of the report's tokens: UTF-8 without control characters, "
        "wholly matched by the pattern and no longer than the max_length that GetPlan states; points of other metrics have "
        "none"
    ),
    RejectionReason.TOO_LATE: "the deadline of every window that the report could count in has passed; drop it",
    RejectionReason.NO_CONSENT: (
        "the unit has not allowed every purpose of every metric in the report, or did so after the interval began; "
        "ask for consent, or leave those metrics out"
    ),
}


RATE_RETRY_MS = 60_000
"""After a minute of silence a unit may send its whole allowance again."""


@dataclass(frozen=True, slots=True)
class Door:
    """What admission knows besides the reports.

    Attributes:
        columns: the active plan.
        first_starts: int64[resolutions], start of the first window of each resolution that is scheduled.
        subjects: from unit ids to their subjects.
        given_since: from subjects to since when each allows each purpose: int64[subjects, purposes].
        pseudonyms: from a period's start and subjects to their pseudonyms in that period.
        bad_unit_tokens: from unit ids, their tokens by index and the time to the indices of those whose token is not their
            own or does not hold; None where no token is asked for.
        versions: of the plan that a report may have been made with; None for that of `columns` alone. Series numbers mean
            the same in all of them.
    """

    columns: PlanColumns
    first_starts: Int64
    subjects: Callable[[Sequence[bytes]], list[bytes]]
    given_since: Callable[[Sequence[bytes]], Int64]
    pseudonyms: Callable[[int, Sequence[bytes]], list[bytes]]
    bad_unit_tokens: Callable[[Sequence[bytes], Mapping[int, bytes], int], Sequence[int]] | None = None
    versions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of some reports.

    Attributes:
        batch: the admitted reports, in order of arrival.
        subjects: of their units.
        storage_starts: int64[a], start of the storage window of each admitted report.
        admitted: int64[a], its index among all.
        reasons: int64[n], 0 where admitted, else a `RejectionReason`.
        missed: bool[n, resolutions], admitted but too late for the resolution's window.
        malformed: what is wrong with a malformed report, by index.
    """

    batch: ReportBatch
    subjects: Sequence[bytes]
    storage_starts: Int64
    admitted: Int64
    reasons: Int64
    missed: Bool
    malformed: dict[int, str]

    def without(self, over: Sequence[int]) -> Admission:
        """The same, without some of the admitted reports, which are more than their own unit may send now (P1).

        Args:
            over: rising indices among the admitted.
        """
        if not over:
            return self
        reasons, missed, refused = self.reasons.copy(), self.missed.copy(), self.admitted[list(over)]
        reasons[refused], missed[refused] = RejectionReason.RATE_LIMITED, False
        left = np.delete(np.arange(len(self.admitted)), over)
        return Admission(
            self.batch.take(left),
            _those(self.subjects, left),
            self.storage_starts[left],
            self.admitted[left],
            reasons,
            missed,
            self.malformed,
        )


def admit(raw: RawReports, door: Door, now_ms: int) -> Admission:
    """Judges reports that arrive now.

    Args:
        raw: n reports.
        door: what admission knows.
        now_ms: the server's receipt.

    Returns:
        The admitted reports as columns, and a reason for each of the others.
    """
    plan = door.columns.catalog.plan
    reasons = np.zeros(len(raw), np.int64)
    lengths = np.diff(raw.offsets)
    start, end = raw.interval_start_ms, raw.interval_end_ms
    bad_ids = np.flatnonzero(_sizes(raw.report_ids) != limits.REPORT_ID_BYTES).tolist()
    malformed = raw.malformed | {i: _BAD_REPORT_ID for i in bad_ids if i not in raw.malformed}
    malformed |= {int(i): _NO_POINTS for i in np.flatnonzero(lengths == 0) if int(i) not in malformed}

    _reject(reasons, _any_of(np.array(list(malformed), np.int64), len(raw)), RejectionReason.MALFORMED)
    _reject(reasons, _bad_unit_ids(raw.unit_ids), RejectionReason.BAD_UNIT_ID)
    if door.bad_unit_tokens is not None:
        # Before all that depends on what the unit has decided: only its own token opens that answer (R3).
        strangers = door.bad_unit_tokens(raw.unit_ids, raw.unit_tokens, now_ms)
        _reject(reasons, _any_of(np.array(strangers, np.int64), len(raw)), RejectionReason.BAD_UNIT_TOKEN)
    _reject(reasons, lengths > limits.POINTS_PER_REPORT_MAX, RejectionReason.TOO_LARGE)
    sane = (start >= 0) & (start < end) & (end - np.maximum(start, 0) <= plan.coarsest.span.length_ms)
    _reject(reasons, ~sane, RejectionReason.BAD_INTERVAL)
    _reject(reasons, end > now_ms + limits.CLOCK_SKEW_MAX_MS, RejectionReason.IN_FUTURE)
    versions = (plan.version,) if door.versions is None else door.versions
    unknown = np.logical_and.reduce([raw.plan_versions != version for version in versions])
    _reject(reasons, unknown, RejectionReason.UNKNOWN_PLAN_VERSION)
    # From here on times are near now, so window arithmetic cannot overflow.
    end = np.where(reasons == 0, end, now_ms)
    start = np.where(reasons == 0, start, now_ms - 1)
    metric, report = _judge_points(raw, door.columns, reasons, np.maximum(end - 1, now_ms))

    used = np.zeros((len(raw), len(plan.metrics)), np.bool_)
    known = np.flatnonzero(metric >= 0)
    used[report[known], metric[known]] = True
    open_at, late_at = _windows(door, start, end, now_ms)
    countable = (used @ door.columns.released) & open_at
    _reject(reasons, np.logical_not(countable.any(axis=1)), RejectionReason.TOO_LATE)
    admitted, subjects = _consenting(raw, door, reasons, used @ door.columns.needs, np.minimum(start, now_ms))
    batch = _batch(raw, admitted, _pseudonyms(door, subjects, plan.privacy.period.starts(end[admitted])), now_ms)
    missed = late_at & (used @ door.columns.released) & (reasons == 0)[:, None]
    return Admission(batch, subjects, plan.finest.span.starts(end[admitted]), admitted, reasons, missed, malformed)


def rejections_of(admission: Admission, first: int, last: int, plan: Plan) -> Sequence[Rejection]:
    """The rejections among the reports `first` to `last` (exclusive), with indices from `first` and texts.

    At most `limits.REJECTION_MESSAGES_MAX` carry a text, which names the version of the plan in force.
    """
    words = {"longest": plan.coarsest.name, "version": plan.version}
    rejections = []
    for count, index in enumerate(np.flatnonzero(admission.reasons[first:last])):
        reason = RejectionReason(int(admission.reasons[first + index]))
        text = ""
        if count < limits.REJECTION_MESSAGES_MAX:
            text = admission.malformed[first + int(index)] if reason is RejectionReason.MALFORMED else _TEXTS[reason]
            text = text if reason is RejectionReason.MALFORMED else text.format(**words)
        retry_after_ms = RATE_RETRY_MS if reason is RejectionReason.RATE_LIMITED else 0
        rejections.append(Rejection(int(index), reason, text, retry_after_ms))
    return rejections


def _reject(reasons: Int64, condition: Bool, reason: RejectionReason) -> None:
    reasons[condition & (reasons == 0)] = reason


def _sizes(strings: Sequence[bytes]) -> Int64:
    return np.fromiter(map(len, strings), np.int64, len(strings))


def _bad_unit_ids(unit_ids: Sequence[bytes]) -> Bool:
    sizes = _sizes(unit_ids)
    bad: Bool = (sizes < 1) | (sizes > limits.UNIT_ID_MAX_BYTES)
    if not b"".join(unit_ids).isascii():
        bad |= np.array([not _is_utf8(unit_id) for unit_id in unit_ids], np.bool_)
    return bad


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _judge_points(raw: RawReports, columns: PlanColumns, reasons: Int64, last_ms: Int64) -> tuple[Int64, Int64]:
    """Rejects reports by their points; returns each point's metric (-1 unknown) and report, int64[m] each.

    Args:
        raw: n reports.
        columns: the active plan.
        reasons: int64[n], written.
        last_ms: int64[n], the receipt, or the last millisecond of the interval where that is later: what has expired by
            then is in no release.
    """
    report = np.repeat(np.arange(len(raw)), np.diff(raw.offsets))
    metric, place = columns.catalog.locate(raw.series)
    known = metric >= 0
    _reject(reasons, _any_of(report[~known], len(raw)), RejectionReason.UNKNOWN_SERIES)
    expired = columns.expires_ms[metric] <= last_ms[report]
    _reject(reasons, _any_of(report[known & expired], len(raw)), RejectionReason.EXPIRED_METRIC)
    at = np.flatnonzero(known)
    numbers = raw.token_numbers[at]
    bad = columns.bad_tokens(metric[at], numbers, raw.tokens)
    _reject(reasons, _any_of(report[at[bad]], len(raw)), RejectionReason.BAD_TOKEN)
    wrong = columns.values_out_of_range(metric[at], place[at], raw.values[at], report[at], numbers)
    _reject(reasons, _any_of(report[at[wrong]], len(raw)), RejectionReason.VALUE_OUT_OF_RANGE)
    return metric, report


def _any_of(reports: Int64, n: int) -> Bool:
    hit = np.zeros(n, np.bool_)
    hit[reports] = True
    return hit


def _windows(door: Door, start: Int64, end: Int64, now_ms: int) -> tuple[Bool, Bool]:
    """Whether each report's window of each resolution takes it, or would have taken it earlier; bool[n, r] each (T2)."""
    resolutions = door.columns.catalog.plan.resolutions
    open_at = np.zeros((len(end), len(resolutions)), np.bool_)
    late_at = np.zeros_like(open_at)
    for column, resolution in enumerate(resolutions):
        starts = resolution.span.starts(end)
        ends = resolution.span.ends(starts)
        fits = end - start <= ends - starts
        in_time = (now_ms < ends + resolution.lateness_ms) & (starts >= door.first_starts[column])
        open_at[:, column] = fits & in_time
        late_at[:, column] = fits & ~in_time
    return open_at, late_at


def _consenting(raw: RawReports, door: Door, reasons: Int64, needs: Bool, by_ms: Int64) -> tuple[Int64, list[bytes]]:
    """Rejects reports whose unit had not agreed in time (P8); the others' indices and subjects."""
    left = np.flatnonzero(reasons == 0)
    subjects = door.subjects(_those(raw.unit_ids, left))
    since = door.given_since(subjects)
    refused = (needs[left] & (since > by_ms[left][:, None])).any(axis=1)
    reasons[left[refused]] = RejectionReason.NO_CONSENT
    agreed = np.flatnonzero(~refused)
    return left[agreed], list(_those(subjects, agreed))


def _those(items: Sequence[bytes], indices: Int64) -> Sequence[bytes]:
    """Some of the items, or all of them; indices rise."""
    return items if len(indices) == len(items) else [items[i] for i in indices.tolist()]


def _pseudonyms(door: Door, subjects: Sequence[bytes], periods: Int64) -> Sequence[bytes]:
    """The pseudonym of each subject in its report's period, which is nearly always the same one."""
    if len(periods) and (periods == periods[0]).all():
        return door.pseudonyms(int(periods[0]), subjects)
    starts, of_start = np.unique(periods, return_inverse=True)
    found = [b""] * len(subjects)
    for number, period in enumerate(starts.tolist()):
        mine = np.flatnonzero(of_start == number)
        for i, pseudonym in zip(mine.tolist(), door.pseudonyms(period, _those(subjects, mine)), strict=True):
            found[i] = pseudonym
    return found


def _batch(raw: RawReports, admitted: Int64, pseudonyms: Sequence[bytes], now_ms: int) -> ReportBatch:
    offsets, points = gathered(raw.offsets, admitted)
    return ReportBatch(
        pairs_of(pseudonyms),
        pairs_of(_those(raw.report_ids, admitted)),
        np.full(len(admitted), now_ms, np.int64),
        raw.interval_start_ms[admitted],
        raw.interval_end_ms[admitted],
        raw.plan_versions[admitted].astype(np.uint32),
        offsets,
        raw.series[points],
        raw.values[points],
        # What rejected reports said goes no further.
        *pruned_tokens(raw.tokens, raw.token_numbers[points]),
    )
