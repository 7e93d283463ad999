"""Which mutants are left out as of a kind that no test can find, and which are not."""

from __future__ import annotations

import pytest

from tests.mutation.equivalent import kind_of
from tests.mutation.mutants import Change


def _change(before: str, after: str) -> Change:
    source = "def f(a, b):\n    {}\n"
    return Change("hushmeter.x.f", (before,), (after,), source.format(before), source.format(after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('ensure(a > b, "a is above b")', 'ensure(a > b, "XXa is above bXX")'),
        ("return zip(a, b, strict=True)", "return zip(a, b, strict=False)"),
        ("return zip(a, b, strict=True)", "return zip(a, b, )"),
        ("return np.full(a, -1, np.int64)", "return np.full(a, -1, None)"),
    ],
)
def test_what_changes_no_behaviour_is_left_out(before: str, after: str) -> None:
    assert kind_of(_change(before, after)) is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('ensure(a > b, "a is above b")', 'ensure(a >= b, "a is above b")'),
        ("return zip(a, b, strict=True)", "return zip(a, None, strict=True)"),
        ("return np.full(a, -1, np.int64)", "return np.full(a, +1, np.int64)"),
        ("return np.full(a, b, np.int64)", "return np.full(a, b, None)"),
        ("return np.full(a, -1, np.int32)", "return np.full(a, -1, None)"),
        ('raise PlanError("a is above b")', 'raise PlanError("XXa is above bXX")'),
    ],
)
def test_what_changes_behaviour_is_tried(before: str, after: str) -> None:
    assert kind_of(_change(before, after)) is None
