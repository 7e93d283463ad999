"""Operators' metrics: no label but reason, stage, status and a histogram's bound; nothing derived from a Tally (R2)."""

from __future__ import annotations

import collections

from prometheus_client import CollectorRegistry, Counter, Histogram

from hushmeter.model.arrays import Int64
from hushmeter.model.report import RejectionReason

_LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Meters:
    """The counters of one process.

    Args:
        multiprocess: whether another process collects them, through files (`PROMETHEUS_MULTIPROC_DIR`); otherwise they
            are collected here.
    """

    def __init__(self, *, multiprocess: bool = False) -> None:
        self.registry = None if multiprocess else CollectorRegistry()
        self.accepted = Counter("hushmeter_reports_accepted", "Reports made durable.", registry=self.registry)
        self.rejected = Counter("hushmeter_reports_rejected", "Reports refused.", ["reason"], registry=self.registry)
        self.calls_refused = Counter(
            "hushmeter_calls_refused", "Calls that the gate refused.", ["reason"], registry=self.registry
        )
        self.commits = Counter("hushmeter_group_commits", "Group commits.", registry=self.registry)
        self.commit_seconds = Histogram(
            "hushmeter_group_commit_seconds", "Time of a group commit.", buckets=_LATENCY_BUCKETS, registry=self.registry
        )
        self.windows = Counter("hushmeter_windows", "Windows that ended so.", ["status"], registry=self.registry)
        self.seal_seconds = Histogram(
            "hushmeter_window_seconds",
            "Time to seal and publish a window.",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.failures = Counter("hushmeter_failures", "Failures that were retried.", ["stage"], registry=self.registry)

    def committed(self, reasons: Int64) -> None:
        """Counts one group commit and its reports.

        Args:
            reasons: int64[n], 0 where a report was admitted, else a `RejectionReason`.
        """
        self.commits.inc()
        counts = collections.Counter(reasons.tolist())
        self.accepted.inc(counts.pop(0, 0))
        for reason, count in counts.items():
            self.rejected.labels(RejectionReason(reason).name).inc(count)
