"""Faults of noise and of what it costs: the audit of noise and of prices catches them."""

from __future__ import annotations

from tests.faults.fault import Fault

_PLAN = "plan/measurements.py"
_NOISE = "noise/opendp.py"
_DRAW = "noisy = np.array(self.invoke(cells), np.int64)"
_RETURN = "return NoisyVector(noisy, self.mechanism, self.scale, self.mapped, salt=new_salt())"
_VECTORS = "vectors = {_key_of(item): vector for item, vector in zip(public, noisy, strict=True)}"

NOISE: tuple[Fault, ...] = (
    Fault("noise of 0.9 of its scale", _NOISE, _DRAW, f"{_DRAW} * 9 // 10 + cells // 10", "noise", "size of noise"),
    Fault("noise of 0.7 of its scale", _NOISE, _DRAW, f"{_DRAW} * 7 // 10 + cells * 3 // 10", "noise", "size of noise"),
    Fault("noise of twice its scale", _NOISE, _DRAW, f"{_DRAW} * 2 - cells", "noise", "size of noise"),
    Fault("no noise at all", _NOISE, _DRAW, "noisy = np.array(cells, np.int64)", "noise", "noise 1h: every vector has it"),
    Fault(
        "parts share their noise",
        _NOISE,
        _RETURN,
        "return NoisyVector(values + np.resize((noisy - values.reshape(noisy.shape)).ravel()[:512], values.shape), self.mechanism, self.scale, self.mapped, salt=new_salt())",
        "noise",
        "noise in parts",
    ),
    Fault(
        "cells of one vector share their noise", _NOISE, _DRAW, f"{_DRAW}[:1] - cells[:1] + cells", "noise", "size of noise"
    ),
    Fault(
        "small counts are not moved",
        _NOISE,
        _DRAW,
        "noisy = np.where(cells < 100, cells, np.array(self.invoke(cells), np.int64))",
        "noise",
        "size of noise",
    ),
    Fault(
        "a threshold that is one too low",
        _NOISE,
        "_selection(mechanism, scale, threshold - 1).map(",
        "_selection(mechanism, scale, threshold).map(",
        "prices",
        "delta of each threshold",
    ),
    Fault(
        "selection by a lower threshold than is charged",
        _NOISE,
        "released = _selection(mechanism, scale, threshold)(names)",
        "released = _selection(mechanism, scale, threshold - 9)(names)",
        "noise",
        "selection at scale",
    ),
    Fault(
        "exact counts of selected partitions",
        _NOISE,
        "values = np.array([noisy for _, noisy in found], np.int64)",
        "values = np.array([counts[key] for key, _ in found], np.int64)",
        "noise",
        "selection at scale",
    ),
    Fault(
        "capped is released without noise",
        "release/measuring.py",
        _VECTORS,
        'vectors = {_key_of(i): vector if i.measurement.name != "capped" else NoisyVector(tally.vectors[_key_of(i)], vector.mechanism, vector.scale, vector.loss) for i, vector in zip(public, noisy, strict=True)}',
        "noise",
        "noise 1h: every vector has it",
    ),
    Fault(
        "participants are released without noise",
        "release/measuring.py",
        _VECTORS,
        'vectors = {_key_of(i): vector if i.measurement.metric != "participants" else NoisyVector(tally.vectors[_key_of(i)], vector.mechanism, vector.scale, vector.loss) for i, vector in zip(public, noisy, strict=True)}',
        "noise",
        "noise 1h: every vector has it",
    ),
    Fault(
        "sums on private partitions without noise",
        "release/measuring.py",
        "return found | {_key_of(item): vector for item, vector in zip(others, noisy, strict=True)}",
        "return found | {_key_of(i): NoisyVector(tally.vectors[_key_of(i)][rows[_view_of(i)]], v.mechanism, v.scale, v.loss) for i, v in zip(others, noisy, strict=True)}",
        "noise",
        "noise 1h: every vector has it",
    ),
)

PRICES: tuple[Fault, ...] = (
    Fault(
        "rho of twice the epsilon",
        "service/deployment/budget.py",
        "mechanisms.zcdp_budget(epsilon, conversion)",
        "mechanisms.zcdp_budget(2 * epsilon, conversion)",
        "prices",
        "epsilon of the budget",
    ),
    Fault(
        "all of delta for the conversion, and half of it again",
        "service/deployment/budget.py",
        "conversion = delta / 2 if selecting else delta",
        "conversion = delta",
        "prices",
        "epsilon of the budget",
    ),
    Fault(
        "each window spends all of delta",
        "ledger/pricing.py",
        "delta = budget.loss.delta / max(1, selecting)",
        "delta = budget.loss.delta",
        "prices",
        "the period costs",
    ),
    Fault(
        "half of the sensitivity",
        "ledger/pricing.py",
        "sensitivity = Fraction(measurement.sensitivity(currency))",
        "sensitivity = Fraction(measurement.sensitivity(currency)) / 2",
        "prices",
        "loss of each charge",
    ),
    Fault(
        "a period of one window",
        _PLAN,
        "windows = min(bounds.max_windows or most, most)",
        "windows = 1",
        "prices",
        "the period costs",
    ),
    Fault(
        "squares by the range, not by its square",
        _PLAN,
        "_M.SQUARES: width**2 *",
        "_M.SQUARES: width *",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "sums of events by one event",
        _PLAN,
        "_M.EVENT_SUM: most * width",
        "_M.EVENT_SUM: width",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "weights by one event",
        _PLAN,
        "_M.WEIGHTS: FIXED_POINT * (1 if per_unit else most)",
        "_M.WEIGHTS: FIXED_POINT",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "L0 of one, whatever the view",
        "model/plan.py",
        "return min(most, math.prod(d.size for d in self.view_dimensions(view) if not d.per_unit))",
        "return 1",
        "prices",
        "sensitivity of each charge",
    ),
    Fault(
        "L0 of an open view of one",
        "model/plan.py",
        "if any(d.open and not d.per_unit for d in self.view_dimensions(view)):\n            return most",
        "if any(d.open and not d.per_unit for d in self.view_dimensions(view)):\n            return 1",
        "prices",
        "sensitivity of each charge",
    ),
)
