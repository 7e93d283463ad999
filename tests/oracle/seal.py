"""Sealing once more, slowly: plain dicts and Python integers, one rule after another. The numpy core must agree with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import Metric, Plan, Weighting
from hushmeter.model.release import PartitionKey
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import VectorKey, ViewKey
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.plan.measurements import columns_of, names_of
from hushmeter.sealing.seal import Participation
from tests.oracle.contribution import Contribution, Rules, wrapped
from tests.oracle.rows import GOLDEN, WORD, Row, Unit, belongs, mix, rows_of, token_mark

View = tuple[str, ...]
Digit = int | bytes
"""A value's number in a closed dimension, or the token of an open one."""
Place = tuple[Digit, ...]
"""A partition of a view: one digit a dimension."""
Partition = int | PartitionKey
Cells = dict[Partition, list[int]]


@dataclass
class Sealed:
    """What a tally says, by partition: of a closed view every one, of an open view those that some unit keeps."""

    vectors: dict[VectorKey, Cells] = field(default_factory=dict)
    keys: dict[ViewKey, tuple[PartitionKey, ...]] = field(default_factory=dict)
    kept: dict[str, list[Unit]] = field(default_factory=dict)


def oracle_seal(
    batch: ReportBatch,
    window: Window,
    *,
    catalog: Catalog,
    consent: ConsentTable,
    salt: bytes,
    copy_key: bytes,
    participation: Mapping[str, Participation],
    rules: Rules | None = None,
) -> Sealed:
    """What `hushmeter.sealing.seal.seal` must return."""
    return _Oracle(catalog, window, _since(consent), salt, copy_key, participation, rules or Rules()).sealed(batch)


def _since(consent: ConsentTable) -> dict[Unit, dict[str, int]]:
    return {
        (int(hi), int(lo)): dict(zip(consent.purposes, granted.tolist(), strict=True))
        for (hi, lo), granted in zip(consent.pseudonyms.tolist(), consent.given_since_ms, strict=True)
    }


def _places(metric: Metric, view: View) -> list[Place]:
    """All partitions of a closed view, in the order of their numbers."""
    places: list[Place] = [()]
    for dimension in metric.view_dimensions(view):
        places = [(*place, digit) for place in places for digit in range(len(dimension.values))]
    return places


def _number(sizes: Sequence[int], digits: Sequence[int]) -> int:
    number = 0
    for size, digit in zip(sizes, digits, strict=True):
        number = number * size + digit
    return number


def _split(metric: Metric, view: View, place: Place, *, per_unit_only: bool = False) -> tuple[int, bytes | None]:
    """The number of a partition among the closed dimensions of a view, and its token if the view is open."""
    sizes, digits, token = [], [], None
    for dimension, digit in zip(metric.view_dimensions(view), place, strict=True):
        if per_unit_only and not dimension.per_unit:
            continue
        if isinstance(digit, bytes):
            token = digit
        else:
            sizes.append(len(dimension.values))
            digits.append(digit)
    return _number(sizes, digits), token


def _name(metric: Metric, view: View, place: Place) -> Partition:
    number, token = _split(metric, view, place)
    return number if token is None else (number, token.decode())


def _merged(cells: Mapping[Place, list[int]], finer: View, coarser: View) -> dict[Place, list[int]]:
    """The partitions of a coarser view, as sums of a finer one's."""
    merged: dict[Place, list[int]] = {}
    for place, totals in cells.items():
        digits = tuple(digit for name, digit in zip(finer, place, strict=True) if name in coarser)
        before = merged.get(digits, [0] * len(totals))
        merged[digits] = [wrapped(a + b) for a, b in zip(before, totals, strict=True)]
    return merged


def _adds_up(metric: Metric, name: MeasurementName) -> bool:
    """Whether what a unit adds to a coarser partition is what it adds to the finer ones, whatever it sent (E2)."""
    if name in {MeasurementName.SUM, MeasurementName.EVENTS, MeasurementName.EVENT_SUM}:
        return True
    if all(bounds.max_partitions == 1 for bounds in metric.bounds.values()):
        return True
    by_event = name in {MeasurementName.WEIGHTS, MeasurementName.SQUARES}
    return by_event and metric.weighting is Weighting.EVENT


@dataclass
class _Oracle:
    catalog: Catalog
    window: Window
    since: dict[Unit, dict[str, int]]
    salt: bytes
    copy_key: bytes
    participation: Mapping[str, Participation]
    rules: Rules

    @property
    def plan(self) -> Plan:
        return self.catalog.plan

    def sealed(self, batch: ReportBatch) -> Sealed:
        tally, window = self._nothing(), self.window
        rows = self._reports(list(rows_of(batch)))
        self._count_participants(rows, tally)
        for index, metric in enumerate(self.plan.metrics):
            if metric not in self.plan.metrics_in(window):
                continue
            units = self._totals(rows, metric, self.catalog.first_series(index))
            self._bound_participation(metric, units, tally)
            if self.rules.tokens_of_all is not None:
                _cut_tokens(units, self.rules.tokens_of_all)
            for unit, cells in units.items():
                if metric.shared_bounding:
                    self._add_shared(unit, cells, metric, tally)
                else:
                    self._add_views(unit, cells, metric, tally)
        for metric_name, view in tally.keys:
            tally.keys[metric_name, view] = tuple(
                sorted(tally.vectors[VectorKey(metric_name, view, MeasurementName.UNITS)])  # type: ignore[arg-type]
            )
        return tally

    def _reports(self, rows: list[Row]) -> list[Row]:
        """P2, T2: of each report the copy that counts in every window, where this window holds it."""
        window, rules = self.window, self.rules
        deadline = self.plan.resolution(window.resolution).deadline_ms(window)
        if rules.assigned_first:
            rows = [row for row in rows if belongs(row, window, deadline)]
        copies: dict[object, list[Row]] = defaultdict(list)
        for row in rows:
            # Storage windows of whole hours and days have borders that are multiples of their length.
            copies[rules.same_report(row, (row.end_ms - 1) // self.plan.finest.span.length_ms)].append(row)
        first = [min(same, key=lambda row: rules.counts_first(row, self.copy_key)) for same in copies.values()]
        return [row for row in first if belongs(row, window, deadline)]

    def _nothing(self) -> Sealed:
        """T3: every public partition is there, also without any unit."""
        tally, resolution = Sealed(), self.window.resolution
        for metric in self.plan.metrics_in(self.window):
            for view in metric.views:
                is_open = any(d.open for d in metric.view_dimensions(view))
                if is_open:
                    tally.keys[metric.name, view] = ()
                for name in names_of(metric, view):
                    zeros = [] if is_open else [_name(metric, view, place) for place in _places(metric, view)]
                    columns = columns_of(metric, name)
                    tally.vectors[VectorKey(metric.name, view, name)] = {p: [0] * columns for p in zeros}
        for metric in self.plan.metrics:
            if resolution in metric.bounds and metric.bounds[resolution].max_windows:
                tally.kept[metric.name] = []
        return tally

    def _count_participants(self, rows: list[Row], tally: Sealed) -> None:
        """Units that sent a report and allowed a purpose before its interval began."""
        cells = tally.vectors.get(VectorKey("participants", ("purpose",), MeasurementName.UNITS))
        for number, purpose in enumerate(self.plan.purpose_names):
            if cells is not None:
                cells[number] = [len({r.unit for r in rows if self._allows(r, purpose)})]

    def _allows(self, row: Row, purpose: str) -> bool:
        granted = self.since.get(row.unit)
        return granted is not None and granted[purpose] <= min(row.start_ms, row.received_at_ms)

    def _totals(self, rows: list[Row], metric: Metric, first: int) -> dict[Unit, dict[Place, list[int]]]:
        """Consented totals (P8) by unit and full partition; a point of an open metric is nowhere without a token."""
        units: dict[Unit, dict[Place, list[int]]] = defaultdict(dict)
        size = len(metric.components)
        for row in rows:
            if not all(self._allows(row, purpose) for purpose in metric.purposes):
                continue
            for series, value, token in row.points:
                if not 0 <= series - first < metric.series_count:
                    continue
                partition, component = divmod(series - first, size)
                place = _full_place(metric, partition, token)
                # The unit has been in the window, even where its point counts nowhere.
                cells = units[row.unit]
                if place is not None:
                    cells.setdefault(place, [0] * size)
                    cells[place][component] = wrapped(cells[place][component] + value)
        return units

    def _bound_participation(self, metric: Metric, units: dict[Unit, dict[Place, list[int]]], tally: Sealed) -> None:
        """P7: a unit is kept iff fewer than max_windows earlier windows kept it."""
        most = metric.bounds[self.window.resolution].max_windows
        if most is None:
            return
        carried = self.participation[metric.name]
        earlier: dict[Unit, int] = {}
        for (hi, lo), words in zip(carried.earlier.pseudonyms.tolist(), carried.earlier.windows.tolist(), strict=True):
            windows = {64 * j + i for j, word in enumerate(words) for i in range(64) if word >> i & 1}
            earlier[hi, lo] = len([w for w in windows if w < carried.index])
        kept = [u for u in units if earlier.get(u, 0) < most + self.rules.extra_windows]
        tally.kept[metric.name] = sorted(kept)
        capped = self.plan.metric("capped")
        row = capped.dimension("metric").values.index(metric.name)
        tally.vectors[VectorKey("capped", ("metric",), MeasurementName.CAPPED)][row] = [len(units) - len(kept), len(kept)]
        for unit in set(units) - set(kept):
            del units[unit]

    def _add_views(self, unit: Unit, cells: dict[Place, list[int]], metric: Metric, tally: Sealed) -> None:
        """P4: project first, then bound."""
        everything = tuple(d.name for d in metric.dimensions)
        for view in metric.views:
            own = _merged(cells, everything, view)
            chosen = self._bounded(unit, list(own), metric, view)
            for place in chosen:
                self._add(tally, metric, view, place, own[place], names_of(metric, view), dropped=len(chosen) < len(own))

    def _add_shared(self, unit: Unit, cells: dict[Place, list[int]], metric: Metric, tally: Sealed) -> None:
        """E2: bound the finest rows once; what adds up is added up from them, the rest is counted anew."""
        everything = tuple(d.name for d in metric.dimensions)
        rows = {place: cells[place] for place in self._bounded(unit, list(cells), metric, everything)}
        dropped = len(rows) < len(cells)
        for view in metric.views:
            adding = [name for name in names_of(metric, view) if _adds_up(metric, name)]
            for place, totals in rows.items():
                (coarse,) = _merged({place: totals}, everything, view)
                self._add(tally, metric, view, coarse, totals, adding, dropped=dropped)
            anew = [name for name in names_of(metric, view) if not _adds_up(metric, name)]
            for place, totals in _merged(rows, everything, view).items():
                self._add(tally, metric, view, place, totals, anew, dropped=dropped)

    def _add(
        self,
        tally: Sealed,
        metric: Metric,
        view: View,
        place: Place,
        totals: list[int],
        names: Sequence[MeasurementName],
        *,
        dropped: bool,
    ) -> None:
        partition = _name(metric, view, place)
        has = Contribution(metric, metric.bounds[self.window.resolution], totals, dropped, self.rules)
        for name in names:
            cells = tally.vectors[VectorKey(metric.name, view, name)]
            before = cells.get(partition, [0] * columns_of(metric, name))
            cells[partition] = [a + b for a, b in zip(before, has.vector(name), strict=True)]

    def _bounded(self, unit: Unit, places: list[Place], metric: Metric, view: View) -> list[Place]:
        """P4: one combination of unit-scoped values, and of its partitions the first l0, in the unit's keyed order."""
        if not places:
            return []
        base = sum(mix(half ^ int.from_bytes(part, "big")) for half, part in zip(unit, _halves(self.salt), strict=True))

        def scope(place: Place) -> tuple[int, int, bytes]:
            number, token = _split(metric, view, place, per_unit_only=True)
            mark = mix(number + GOLDEN)
            if token is not None:
                mark = mix(mark + token_mark(token, self.salt))
            return mix(base % WORD ^ mark), number, token or b""

        def order(place: Place) -> tuple[int, int, bytes]:
            number, token = _split(metric, view, place)
            mark = mix(number + 1)
            if token is not None:
                mark = mix(mark + token_mark(token, self.salt))
            return mix(base + mark), number, token or b""

        first = min(map(scope, places))
        same = [place for place in places if self.rules.many_scopes or scope(place) == first]
        return sorted(same, key=order)[: self._l0(metric, view) + self.rules.extra_partitions]

    def _l0(self, metric: Metric, view: View) -> int:
        """P4: max_partitions, or as many as one combination of unit-scoped values has."""
        most, partitions = metric.bounds[self.window.resolution].max_partitions, 1
        for dimension in metric.view_dimensions(view):
            if not dimension.per_unit:
                partitions *= most if dimension.open else len(dimension.values)
        return min(most, partitions)


def _halves(salt: bytes) -> tuple[bytes, bytes]:
    return salt[:8], salt[8:]


def _full_place(metric: Metric, partition: int, token: bytes | None) -> Place | None:
    """One digit a dimension, the last one fastest; None where an open dimension has no token."""
    digits: list[Digit] = []
    for dimension in reversed(metric.dimensions):
        if dimension.open is None:
            partition, digit = divmod(partition, len(dimension.values))
            digits.append(digit)
        elif token is None:
            return None
        else:
            digits.append(token)
    return tuple(reversed(digits))


def _cut_tokens(units: dict[Unit, dict[Place, list[int]]], most: int) -> None:
    """The wrong rule that P1 forbids: whose tokens count depends on what other units sent."""
    tokens = sorted({digit for cells in units.values() for place in cells for digit in place if isinstance(digit, bytes)})
    for cells in units.values():
        for place in [p for p in cells if any(digit in tokens[most:] for digit in p)]:
            del cells[place]
