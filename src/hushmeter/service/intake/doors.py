"""The doors of one worker: what each version of the plan admits, by the decisions that are recorded at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from hushmeter.access.rates import UnitRates
from hushmeter.access.unit_tokens import ISSUER_KEY_NAME, invalid_among
from hushmeter.errors import Overloaded
from hushmeter.ingest.admission import Admission, Door
from hushmeter.ingest.by_version import admit_by
from hushmeter.ingest.copies import Copies
from hushmeter.ingest.identity import pseudonyms_of, subjects_of
from hushmeter.ingest.raw import RawReports
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import PurposeState
from hushmeter.model.report import ReportBatch
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.consent_registers import Registers
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.plan_timeline import Era, era_at, versions_at
from hushmeter.service.intake.open_segments import OpenSegments
from hushmeter.service.intake.period_keys import PeriodKeys

_NOTHING = -1


class Doors:
    """One door for each version of the plan whose windows take reports. The commit thread alone calls.

    A door admits a report by its version of the plan, by what its unit has decided, by how many reports its unit sends, and
    as the first of its copies. What a group of reports uses up of rates and copies counts from `settle` on.

    Args:
        context: the deployment.
        rules: what is asked of units.
        deployment_key: of subjects.
        period_keys: of pseudonyms.
        segments: tell the worker's time; those that an erasure ends take no more rows.
    """

    def __init__(
        self,
        context: Context,
        rules: AccessRules,
        deployment_key: bytes,
        period_keys: PeriodKeys,
        segments: OpenSegments,
    ) -> None:
        self._context = context
        self._asks_tokens = rules.unit_tokens
        self._deployment_key = deployment_key
        self._period_keys = period_keys
        self._segments = segments
        self._rates = UnitRates(per_minute) if (per_minute := rules.unit_reports_per_minute) else None
        self._copies = Copies()
        self._registers = Registers()
        self._followed = _NOTHING
        self._doors: dict[int, Door] = {}
        self._eras: tuple[Era, ...] = ()
        self._open_until_ms = 0

    def follow_plan(self) -> None:
        """Makes a door for each version whose windows take reports, now or later, and takes the other doors away.

        Does nothing while no version was added and no door's last window is over.
        """
        timeline, now = self._context.timeline, self._segments.now_ms()
        if timeline.eras is self._eras and now < self._open_until_ms:
            return
        self._eras, opened = timeline.eras, timeline.open_at(now)
        self._open_until_ms = min(era.takes_until_ms() for era in opened)
        self._registers.need(opened)
        # A register that is new reads all decisions here, so that it knows them before the time of its version begins.
        self._followed = _NOTHING
        self.follow_decisions()
        self._doors = {era.version.version: self._door(era, opened) for era in opened}

    def follow_decisions(self) -> None:
        """Reads what any worker has recorded by now; asks the store one question where that is nothing new.

        Segments that were registered before an erasure take no more rows once it is read. So the worker puts no row that
        was admitted with consent of after the erasure into a segment that the erasure covers (R3).
        """
        decided = self._context.store.decided()
        if decided.newest != self._followed:
            decisions_after = self._copies.following(self._context.store.decisions_after, self._period_keys.kept())
            self._registers.follow(decisions_after, decided.newest)
            self._segments.end_through(decided.erasing_through)
            self._followed = decided.newest

    def admit(self, raw: RawReports, now_ms: int) -> Admission:
        """Judges a group of reports, each at the door of the version whose windows hold it.

        Args:
            raw: n reports.
            now_ms: their receipt.

        Raises:
            Overloaded: a unit is new to the table of rates, and the table is full.
        """
        self.follow_plan()
        # Where the version of a report has no door any more, the oldest door judges the report: it is too late there too.
        of_report = np.maximum(versions_at(self._eras, raw.interval_end_ms), min(self._doors))
        admission = admit_by(raw, self._doors, of_report, now_ms)
        if self._rates is None:
            return admission
        judged = self._rates.judge(admission.subjects, self._context.clock.monotonic_s())
        if judged.crowded:
            raise Overloaded
        return admission.without(judged.over)

    def rows(self, admission: Admission, now_ms: int) -> dict[int, ReportBatch]:
        """The rows of admitted reports, by start of their storage window; of copies of one report the first alone (P2).

        Args:
            admission: of `admit`.
            now_ms: its receipt.
        """
        return self._copies.rows(admission.batch, admission.storage_starts, now_ms)

    def settle(self) -> None:
        """Counts the group that was admitted last, since its rows are durable now."""
        self._copies.settle()
        if self._rates is not None:
            self._rates.settle()

    def states(self, subject: bytes) -> dict[str, PurposeState]:
        """Where a unit stands on each purpose that it can decide about, by the decisions that were followed.

        These are what the plan in force asks, and what the unit allows of what earlier versions ask whose windows wait.
        """
        self.follow_plan()
        now = era_at(self._eras, self._segments.now_ms())
        in_force = self._registers.of(now).states(subject)
        before = [e for e in self._eras if e.version.version in self._doors and e.from_ms < now.from_ms]
        return self._registers.allowed(before, subject) | in_force

    def consent_of(self, subject: bytes) -> dict[str, PurposeState]:
        """The same as `states`, by all decisions that are recorded by now."""
        self.follow_decisions()
        return self.states(subject)

    def allowed_since(self, subject: bytes) -> tuple[dict[int, Int64], int]:
        """Since when a unit has allowed each purpose, by version of the plan that has a door; and the worker's time."""
        self.follow_plan()
        self.follow_decisions()
        waiting = [era for era in self._eras if era.version.version in self._doors]
        since = {era.version.version: self._registers.of(era).given_since([subject])[0] for era in waiting}
        return since, self._segments.now_ms()

    def _door(self, era: Era, opened: Sequence[Era]) -> Door:
        context = self._context
        return Door(
            era.columns,
            context.first_starts,
            partial(subjects_of, self._deployment_key),
            self._registers.of(era).given_since,
            self._pseudonyms,
            partial(invalid_among, context.keys.get_or_create(ISSUER_KEY_NAME)) if self._asks_tokens else None,
            tuple(e.version.version for e in opened),
        )

    def _pseudonyms(self, period_start_ms: int, subjects: Sequence[bytes]) -> list[bytes]:
        return pseudonyms_of(self._period_keys.key(period_start_ms), subjects)
