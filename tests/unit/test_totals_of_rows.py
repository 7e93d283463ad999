"""What totals keep: which points a waiting window still uses, and whose rows are whose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.report import ReportBatch
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.sealing.totals import _since, still_used
from tests.strategies import DAY, HOUR, PURPOSES, RESOLUTIONS, STARTS, batch_of, plan_of

BOUNDS = STARTS.bounds["1h"]
HOURLY = replace(STARTS, name="hourly")
DAILY = replace(STARTS, name="daily", at=("1d",), bounds={"1d": BOUNDS}, purposes=PURPOSES)
BOTH = replace(STARTS, name="both", at=("1h", "1d"), bounds={"1h": BOUNDS, "1d": BOUNDS}, purposes=PURPOSES[1:])
PLAN = plan_of([HOURLY, DAILY, BOTH])
CATALOG = Catalog.of(PLAN, assign_blocks(PLAN))
SERIES = [CATALOG.first_series(index) for index in range(3)]
DEADLINES: dict[Window, int] = {HOUR: RESOLUTIONS[0].deadline_ms(HOUR), DAY: RESOLUTIONS[1].deadline_ms(DAY)}


def rows(*received: int) -> ReportBatch:
    """A row in the hour for each receipt, with a point of every metric, and one of a series that no plan knows."""
    points = [(series, 1) for series in (*SERIES, 1_000_000)]
    return batch_of([((1, 1), i, at, HOUR.start_ms, HOUR.end_ms, points) for i, at in enumerate(received)])


def used(batch: ReportBatch, *windows: Window, since: tuple[int, int] = (0, 0)) -> list[list[bool]]:
    """Which points are still used: a list a row, of hourly, daily, both, and the unknown one."""
    table = np.full((len(batch), 2), since, np.int64)
    return still_used(batch, [(w, DEADLINES[w]) for w in windows], CATALOG, table).reshape(-1, 4).tolist()


def test_a_point_is_used_where_a_waiting_window_releases_its_metric() -> None:
    """A row in time for hour and day serves the metrics of those that wait; of an unknown series nothing is used."""
    row = rows(HOUR.end_ms)
    assert used(row, HOUR, DAY) == used(row, DAY, HOUR) == [[True, True, True, False]]
    assert used(row, HOUR) == [[True, False, True, False]]
    assert used(row, DAY) == [[False, True, True, False]]
    assert used(row) == [[False] * 4]


def test_a_row_that_missed_its_hour_serves_the_day_alone() -> None:
    """A metric of hours alone does not use a row that came after the hour's deadline, and nobody one after the day's."""
    late, too_late = DEADLINES[HOUR], DEADLINES[DAY]
    assert used(rows(HOUR.end_ms, late, too_late), HOUR, DAY) == [
        [True, True, True, False],
        [False, True, True, False],
        [False] * 4,
    ]


def test_a_point_is_used_where_every_purpose_of_its_metric_is_allowed() -> None:
    """Consent for one purpose reaches the metrics of that purpose alone, from the moment on when it was given."""
    row, start = rows(HOUR.end_ms), HOUR.start_ms
    assert used(row, HOUR, DAY, since=(start, NEVER)) == [[True, False, False, False]]
    assert used(row, HOUR, DAY, since=(start + 1, start)) == [[False, False, True, False]]


def test_units_that_share_half_a_pseudonym_are_two() -> None:
    """Rows are numbered by whole pseudonyms, and each has the consent of its own unit."""
    units = [(1, 5), (2, 5), (1, 5), (1, 4), (2, 5), (2, 4)]
    batch = batch_of([(unit, 0, HOUR.end_ms, 1, HOUR.end_ms, []) for unit in units])
    names = sorted(set(units))
    blobs = [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in names]
    consent = ConsentTable.of(PURPOSES, [(blob, (i, 10 * i)) for i, blob in enumerate(blobs)])
    since, numbers = _since(batch, consent)
    assert numbers.tolist() == [names.index(unit) for unit in units]
    assert since.tolist() == [[names.index(unit), 10 * names.index(unit)] for unit in units]
