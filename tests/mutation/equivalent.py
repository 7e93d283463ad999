"""Mutants that no test can find, each with the reason.

`KINDS` are changes of what a call's argument alone says; `ONES` are single changes, keyed by what is changed, as numbers of
mutants move with every line.
"""

from __future__ import annotations

import ast
from typing import Final

from tests.mutation.mutants import Change

KINDS: Final = (
    ("ensure", "the words of an invariant: nobody meets them unless the code is wrong"),
    ("zip", "zip of columns of one length: `strict` states that, and changes nothing where it holds"),
    ("np.full", "an array full of an integer is int64, whether or not that is said"),
)
_INTEGERS: Final = {"NEVER", "_NOBODY"}
"""Constants that are an int in every module."""

Key = tuple[str, tuple[str, ...], tuple[str, ...]]
ONES: dict[Key, str] = {
    (
        "hushmeter.consent.register.ConsentRegister._rows",
        ("while len(self._subjects) > len(self._since):",),
        ("while len(self._subjects) >= len(self._since):",),
    ): "the columns grow one subject earlier, and nobody reads a row that no subject has",
    (
        "hushmeter.consent.subjects.SubjectRows._append",
        ("if self._count > len(self._subjects):",),
        ("if self._count >= len(self._subjects):",),
    ): "a table that is just full is built again, as large as it was and with the same rows",
    (
        "hushmeter.consent.subjects.SubjectRows._next",
        ("return (slots + 1) & (len(self._slots) - 1)",),
        ("return (slots - 1) & (len(self._slots) - 1)",),
    ): "slots are tried in the other direction, by who writes and by who reads; rows are numbered by arrival",
    (
        "hushmeter.query.answering._view",
        ("finer = [v for v in metric.views if set(view) < set(v)]",),
        ("finer = [v for v in metric.views if set(view) <= set(v)]",),
    ): "views are in the metric's order, and no view of the same dimensions is released where this line is reached",
    (
        "hushmeter.query.consistency._combined",
        ("split = _split(view.values.transpose(*axes, len(axes)).astype(np.float64))",),
        ("split = _split(view.values.transpose(*axes, len(axes)).astype(None))",),
    ): "numpy takes None for float64",
    (
        "hushmeter.query.estimates._top_k",
        ('ranked = np.argsort(-h.values, axis=1, kind="stable")[:, : asked.metric.top_k]',),
        ('ranked = np.argsort(-h.values, kind="stable")[:, : asked.metric.top_k]',),
    ): "the second of two axes is the last one, along which numpy sorts by default",
    (
        "hushmeter.query.intervals.fieller",
        ("safe = np.where(a == 0, 1.0, a)",),
        ("safe = np.where(a == 0, 2.0, a)",),
    ): "where a is 0 the roots are not used",
    (
        "hushmeter.query.quantiles._crossing",
        ("share = -bound[row, last] / np.where(step > 0, step, 1.0)",),
        ("share = -bound[row, last] / np.where(step > 0, step, 2.0)",),
    ): "without a step both places are the same one",
    (
        "hushmeter.query.quantiles._inverted",
        ("share = (target - below) / np.where(rise > 0, rise, 1.0)",),
        ("share = (target - below) / np.where(rise > 0, rise, 2.0)",),
    ): "a curve that does not rise to its target ends at 0, and has the middle of the range",
    (
        "hushmeter.query.ratios._ratio",
        ("safe = np.where(positive, n, 1.0)",),
        ("safe = np.where(positive, n, 2.0)",),
    ): "it stands for a count that is not positive, and what is divided by it is not used",
    (
        "hushmeter.query.ratios.variance",
        ("safe = np.where(positive, n.values, 1.0)",),
        ("safe = np.where(positive, n.values, 2.0)",),
    ): "it stands for a count that is not positive, and what is divided by it is not used",
    (
        "hushmeter.query.sums.Sums.of",
        ("values = np.sum([v.values for v in vectors], axis=0).astype(np.float64)",),
        ("values = np.sum([v.values for v in vectors], axis=0).astype(None)",),
    ): "numpy takes None for float64",
}


def why_equivalent(change: Change) -> str | None:
    """The reason why a change is equivalent, or None."""
    for kind, why in KINDS:
        if _plainly(change.original, kind) == _plainly(change.mutant, kind):
            return why
    return ONES.get((change.function, change.before, change.after))


class _Plain(ast.NodeTransformer):
    """Leaves out of each call of one name what `KINDS` says of it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if ast.unparse(node.func) != self._kind:
            return node
        if self._kind == "ensure":
            node.args = node.args[:1]
        elif self._kind == "zip":
            node.keywords = [k for k in node.keywords if k.arg != "strict"]
        elif len(node.args) > 1 and _is_integer(node.args[1]) and ast.unparse(node.args[-1]) in {"None", "np.int64"}:
            node.args = node.args[:2]
        return node


def _is_integer(node: ast.expr) -> bool:
    plain = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    if isinstance(plain, ast.Constant):
        return type(plain.value) is int
    return isinstance(plain, ast.Name) and plain.id in _INTEGERS


def _plainly(source: str, kind: str) -> str:
    return ast.dump(_Plain(kind).visit(ast.parse(source)))
