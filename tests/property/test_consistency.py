from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import InvariantError
from hushmeter.query.consistency import NoisyView, consistent
from hushmeter.testing.consistency import consistent_windows

NAMES = ("country", "version", "device", "network")


@dataclass(frozen=True)
class Case:
    """Views of one quantity, with what they would be without noise, and the size of every dimension."""

    sizes: dict[str, int]
    truth: np.ndarray
    views: tuple[NoisyView, ...]

    def marginal(self, names: tuple[str, ...]) -> np.ndarray:
        """The exact view, its axes in the order of `names`."""
        return marginal_of(self.truth, tuple(self.sizes), names)


def marginal_of(table: np.ndarray, has: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """What a table adds up to along the dimensions that are not named; its last axis is columns."""
    total = table.sum(axis=tuple(i for i, name in enumerate(has) if name not in names))
    left = [name for name in has if name in names]
    return total.transpose(*(left.index(name) for name in names), len(names))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any sets of views: some twice, some in another order, finer and coarser ones missing, sizes of 1 among them."""
    names = NAMES[: draw(st.integers(0, 4))]
    sizes = {name: draw(st.integers(1, 4 if len(names) < 4 else 3)) for name in names}
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = draw(st.integers(1, 3))
    truth = rng.integers(-100, 1_000, (*sizes.values(), columns))
    views = []
    for subset in draw(st.lists(st.lists(st.sampled_from(names or ("",)), unique=True), min_size=1, max_size=6)):
        kept = tuple(subset) if names else ()
        std = 10 ** draw(st.floats(-1, 3))
        exact = marginal_of(truth, names, kept)
        noisy = exact + std * rng.standard_normal(exact.shape)
        whole = draw(st.booleans())
        views.append(NoisyView(kept, noisy.astype(np.int64) if whole else noisy, std**2))
    return Case(sizes, truth, tuple(views))


def design(sizes: dict[str, int], names: tuple[str, ...]) -> np.ndarray:
    """The matrix that adds the cells of the full table, flat, up to a view, flat."""
    cells = math.prod(sizes.values())
    identity = np.eye(cells).reshape(*sizes.values(), cells)
    return marginal_of(identity, tuple(sizes), names).reshape(-1, cells)


def dense(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Generalised least squares with matrices: for each view its estimate and the variance of each cell.

    The cells of the full table may not be determined by the views; the views always are, so that any least-squares
    solution will do.
    """
    designs = [design(case.sizes, view.dimensions) for view in case.views]
    whitened = np.vstack([a / math.sqrt(v.variance) for a, v in zip(designs, case.views, strict=True)])
    seen = np.vstack(
        [v.values.reshape(len(a), -1) / math.sqrt(v.variance) for a, v in zip(designs, case.views, strict=True)]
    )
    inverse = np.linalg.pinv(whitened, rcond=1e-9)
    found = []
    for matrix, view in zip(designs, case.views, strict=True):
        linear = matrix @ inverse
        found.append(((linear @ seen).reshape(view.values.shape), (linear**2).sum(axis=1)))
    return found


@given(cases())
def test_closed_form_is_dense_least_squares(case: Case) -> None:
    """Estimates and variances equal those of generalised least squares with matrices, for any set of views."""
    scale = max(math.sqrt(v.variance) for v in case.views) + np.abs(case.truth).sum()
    for told, (values, variance) in zip(consistent(case.views), dense(case), strict=True):
        np.testing.assert_allclose(told.values, values, rtol=1e-7, atol=1e-7 * scale)
        np.testing.assert_allclose(variance, told.variance, rtol=1e-6)


@given(cases())
def test_every_identity_holds(case: Case) -> None:
    """Two estimates agree on every marginal that they share, but for rounding."""
    scale = np.abs(case.truth).sum() + sum(np.abs(v.values).sum() for v in case.views)
    for a, b in itertools.combinations(consistent(case.views), 2):
        shared = tuple(name for name in a.dimensions if name in b.dimensions)
        one, other = (marginal_of(v.values, v.dimensions, shared) for v in (a, b))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * scale)


@given(cases())
def test_what_agrees_is_left_alone(case: Case) -> None:
    """Views that already agree are reproduced: the map is linear and unbiased."""
    exact = [NoisyView(v.dimensions, case.marginal(v.dimensions), v.variance) for v in case.views]
    for view, told in zip(exact, consistent(exact), strict=True):
        np.testing.assert_allclose(told.values, view.values, rtol=0, atol=1e-12 * np.abs(case.truth).sum())


@given(cases())
def test_no_variance_grows(case: Case) -> None:
    """An estimate is at least as sharp as its release, and as any finer one added up, also after rounding."""
    for told in consistent(case.views):
        for view in case.views:
            if set(told.dimensions) <= set(view.dimensions):
                folded = math.prod(n for name, n in view.sizes.items() if name not in told.dimensions)
                assert 0 < told.variance <= view.variance * folded


@given(cases())
def test_a_view_alone_is_itself(case: Case) -> None:
    """One view by itself is its own estimate, with its own variance."""
    view = case.views[0]
    (told,) = consistent([view])
    np.testing.assert_allclose(told.values, view.values, rtol=0, atol=1e-12 * np.abs(view.values).sum() + 1e-300)
    assert told.variance == pytest.approx(view.variance)


@given(cases(), st.randoms(use_true_random=False))
def test_order_does_not_matter(case: Case, random: Random) -> None:
    """Neither the order of views nor that of a view's axes changes an estimate, but for rounding."""
    order = list(range(len(case.views)))
    random.shuffle(order)
    scale = np.abs(case.truth).sum() + sum(np.abs(v.values).sum() for v in case.views)
    turned = []
    for view in (case.views[i] for i in order):
        axes = [*reversed(range(len(view.dimensions))), len(view.dimensions)]
        turned.append(NoisyView(view.dimensions[::-1], view.values.transpose(axes), view.variance))
    for i, told in zip(order, consistent(turned), strict=True):
        expected = consistent(case.views)[i]
        axes = [*reversed(range(len(told.dimensions))), len(told.dimensions)]
        np.testing.assert_allclose(told.values.transpose(axes), expected.values, rtol=0, atol=1e-12 * scale)
        assert told.variance == pytest.approx(expected.variance)


@given(cases())
def test_columns_stay_apart(case: Case) -> None:
    """Each column's estimate is what it would be without the others."""
    together = consistent(case.views)
    for column in range(case.truth.shape[-1]):
        alone = consistent([NoisyView(v.dimensions, v.values[..., [column]], v.variance) for v in case.views])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a.values[..., [column]], b.values, rtol=1e-12, atol=1e-9)


@given(cases(), st.data())
def test_views_that_were_never_released(case: Case, data: st.DataObject) -> None:
    """A coarser view that was not released is the marginal of those that were, and its variance that of the dense map."""
    finer = data.draw(st.sampled_from(case.views))
    names = tuple(data.draw(st.lists(st.sampled_from(finer.dimensions), unique=True))) if finer.dimensions else ()
    told, source = consistent(case.views, [names, finer.dimensions])
    scale = np.abs(case.truth).sum() + sum(np.abs(v.values).sum() for v in case.views)
    np.testing.assert_allclose(
        told.values, marginal_of(source.values, source.dimensions, names), rtol=0, atol=1e-12 * scale
    )
    whitened = np.vstack([design(case.sizes, v.dimensions) / math.sqrt(v.variance) for v in case.views])
    linear = design(case.sizes, names) @ np.linalg.pinv(whitened, rcond=1e-9)
    np.testing.assert_allclose((linear**2).sum(axis=1), told.variance, rtol=1e-6)


def dense_windows(variances: Sequence[float], coarse_variance: float) -> np.ndarray:
    """The matrix from (windows, longer window) to their least-squares estimates."""
    whole = np.vstack([np.eye(len(variances)), np.ones((1, len(variances)))])
    std = np.sqrt([*variances, coarse_variance])
    return whole @ np.linalg.pinv(whole / std[:, None], rcond=1e-12) / std


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30), st.floats(0.01, 1e4), st.integers(0, 2**32))
def test_windows_are_dense_least_squares(variances: list[float], coarse_variance: float, seed: int) -> None:
    """Both levels equal least squares with matrices, add up, and are no less sharp than what was released."""
    rng = np.random.default_rng(seed)
    fine, coarse = rng.integers(-1_000, 1_000, (len(variances), 3, 2)), rng.integers(-10_000, 10_000, (3, 2))
    told = consistent_windows(fine, np.array(variances), coarse, coarse_variance)
    linear = dense_windows(variances, coarse_variance)
    values = np.einsum("ij,jkl->ikl", linear, np.concatenate([fine, coarse[None]]))
    spread = linear**2 @ np.array([*variances, coarse_variance])
    np.testing.assert_allclose(told.fine, values[:-1], rtol=1e-7, atol=1e-4)
    np.testing.assert_allclose(told.coarse, values[-1], rtol=1e-7, atol=1e-4)
    np.testing.assert_allclose(told.fine_variance, spread[:-1], rtol=1e-6)
    assert told.coarse_variance == pytest.approx(spread[-1], rel=1e-6)
    np.testing.assert_allclose(told.fine.sum(axis=0), told.coarse, rtol=0, atol=1e-8)
    assert np.all(told.fine_variance <= variances)
    assert 0 < told.coarse_variance <= coarse_variance


@given(st.integers(1, 30), st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.integers(0, 2**32))
def test_windows_that_agree_are_left_alone(count: int, variance: float, coarse_variance: float, seed: int) -> None:
    """Windows that already add up are reproduced."""
    fine = np.random.default_rng(seed).integers(-1_000, 1_000, (count, 4))
    told = consistent_windows(fine, np.full(count, variance), fine.sum(axis=0), coarse_variance)
    assert np.array_equal(told.fine, fine)
    assert np.array_equal(told.coarse, fine.sum(axis=0))


@given(st.integers(1, 30), st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.integers(0, 2**32))
def test_time_is_a_dimension_like_any_other(count: int, variance: float, coarse_variance: float, seed: int) -> None:
    """Where windows have one variance, both functions say the same."""
    rng = np.random.default_rng(seed)
    fine, coarse = rng.integers(-1_000, 1_000, (count, 5)), rng.integers(-10_000, 10_000, 5)
    told = consistent_windows(fine, np.full(count, variance), coarse, coarse_variance)
    hours, day = consistent([NoisyView(("hour",), fine, variance), NoisyView((), coarse, coarse_variance)])
    np.testing.assert_allclose(told.fine, hours.values, rtol=0, atol=1e-8)
    np.testing.assert_allclose(told.coarse, day.values, rtol=0, atol=1e-8)
    np.testing.assert_allclose(told.fine_variance, hours.variance)
    assert told.coarse_variance == pytest.approx(day.variance)


def test_by_hand() -> None:
    """A total of variance 2 and two cells of variance 1: the gap of 4 is shared as 1, 1 and 2; a quarter, a half is won."""
    cells, total = consistent([NoisyView(("a",), np.array([[3.0], [5.0]]), 1.0), NoisyView((), np.array([12.0]), 2.0)])
    assert cells.values.ravel().tolist() == [4.0, 6.0]
    assert total.values.tolist() == [10.0]
    assert (cells.variance, total.variance) == (0.75, 1.0)


def test_results_cannot_be_written_to() -> None:
    """What is handed on is read-only, also of a single cell, and never the caller's own array."""
    given_values = np.zeros((2, 1))
    (view,) = consistent([NoisyView(("a",), given_values, 1.0)])
    windows = consistent_windows(np.zeros(2), np.ones(2), np.zeros(()), 1.0)
    assert not any(a.flags.writeable for a in (view.values, windows.fine, windows.fine_variance, windows.coarse))
    assert given_values.flags.writeable


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf, math.nan])
def test_a_variance_is_positive_and_finite(variance: float) -> None:
    """Noise that is none, or without end, is refused."""
    with pytest.raises(InvariantError, match="positive and finite"):
        NoisyView((), np.zeros(1), variance)
    with pytest.raises(InvariantError, match="positive and finite"):
        consistent_windows(np.zeros(2), np.array([1.0, variance]), np.zeros(()), 1.0)
    with pytest.raises(InvariantError, match="positive and finite"):
        consistent_windows(np.zeros(2), np.ones(2), np.zeros(()), variance)


def test_what_does_not_fit_together_is_refused() -> None:
    """Shapes that contradict each other, and views that nothing measured, are defects of the caller."""
    pair, triple = NoisyView(("a",), np.zeros((2, 1)), 1.0), NoisyView(("a",), np.zeros((3, 1)), 1.0)
    for views, wanted in [([], None), ([pair, triple], None), ([pair, NoisyView((), np.zeros(2), 1.0)], None)]:
        with pytest.raises(InvariantError, match=r"view|sizes|columns"):
            consistent(views, wanted)
    for names in [("b",), ("a", "b"), ("a", "a")]:
        with pytest.raises(InvariantError, match="no view holds"):
            consistent([pair], [names])
    for names, values in [(("a", "a"), np.zeros((2, 2, 1))), (("a",), np.zeros(2)), (("a",), np.zeros((0, 1)))]:
        with pytest.raises(InvariantError, match="a view"):
            NoisyView(names, values, 1.0)
    for fine, variances, coarse in [
        (np.zeros((0, 1)), np.zeros(0), np.zeros(1)),
        (np.zeros((2, 1)), np.ones(2), np.zeros(2)),
        (np.zeros((2, 1)), np.ones(3), np.zeros(1)),
    ]:
        with pytest.raises(InvariantError, match="window"):
            consistent_windows(fine, variances, coarse, 1.0)
