from __future__ import annotations

import pytest

from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import Measurement, MeasurementName
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.plan.measurements import measurements_of
from hushmeter.sealing.seal import seal
from tests.shared_bounding import catalog
from tests.strategies import DAY, batch_of

PARTITIONS = 3 * 4 * 2


def claims(most: int) -> dict[tuple[str, ...], Measurement]:
    return {m.view: m for m in measurements_of(catalog(most).plan) if m.name is MeasurementName.SUM}


def of_a_unit_everywhere(most: int, salt: int) -> Tally:
    """The tally of one unit that sends the largest total in every partition."""
    found = catalog(most)
    points = [(found.first_series(0) + partition, 5, None) for partition in range(PARTITIONS)]
    rows = batch_of([((1, 1), 0, DAY.end_ms, DAY.end_ms - 1, DAY.end_ms, points)])
    consent = ConsentTable.of(("tuning",), [((1).to_bytes(8, "big") * 2, (0,))])
    return seal(rows, DAY, catalog=found, consent=consent, salt=bytes([salt]) * 16, copy_key=bytes(32))


@pytest.mark.parametrize("most", [1, 8, 100])
def test_the_claim_is_reached_and_no_more(most: int) -> None:
    """A unit in every partition moves each view by exactly the claimed L1 and L2 norms."""
    tally = of_a_unit_everywhere(most, 0)
    for view, claim in claims(most).items():
        moved = [int(cell) for cell in tally.vectors[VectorKey("m", view, MeasurementName.SUM)].ravel()]
        assert (sum(moved), sum(cell**2 for cell in moved)) == (claim.l1, claim.l2_squared)


@pytest.mark.parametrize("most", [2, 3, 5])
def test_no_choice_of_rows_exceeds_the_claim(most: int) -> None:
    """Whichever rows of a unit the window's key keeps, no view moves by more than is claimed, and one by as much."""
    reached = dict.fromkeys(claims(most), 0)
    for salt in range(40):
        tally = of_a_unit_everywhere(most, salt)
        for view in reached:
            vector = tally.vectors[VectorKey("m", view, MeasurementName.SUM)]
            reached[view] = max(reached[view], sum(int(cell) ** 2 for cell in vector.ravel()))
    assert all(reached[view] <= claim.l2_squared for view, claim in claims(most).items())
    assert reached["kind", "side"] == claims(most)["kind", "side"].l2_squared


def test_a_dimension_that_a_unit_has_one_value_of_folds_nothing() -> None:
    """Leaving out a unit-scoped dimension takes no more noise: no two rows of a unit differ in it alone."""
    by_view = claims(8)
    assert by_view["kind", "side"].l2_squared == by_view["platform", "kind", "side"].l2_squared == 8 * 5**2
    assert by_view[()].l2_squared == by_view["platform",].l2_squared == (8 * 5) ** 2
