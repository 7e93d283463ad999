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
    # consent
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
    # ledger
    (
        "hushmeter.ledger.commitments._plain_digest",
        ('partitions = json.dumps(keys, separators=(",", ":"), ensure_ascii=False)',),
        ('partitions = json.dumps(keys, separators=(",", "XX:XX"), ensure_ascii=False)',),
    ): "partitions are pairs in a list: the text holds no mapping, which alone has the second separator",
    (
        "hushmeter.ledger.commitments.commitment_to",
        ('vector.salt or b"",',),
        ('vector.salt or b"XXXX",',),
    ): "the line before refuses a vector without a salt, and a salt is 16 bytes: the other value is never taken",
    (
        "hushmeter.ledger.gaussian.exact_mu",
        ("low, high = 0.0, 1.0",),
        ("low, high = 0.0, 2.0",),
    ): "bisection comes to the one border where delta is exceeded from any bracket around it",
    (
        "hushmeter.ledger.gaussian.exact_mu",
        ("low, high = high, 2 * high",),
        ("low, high = high, 3 * high",),
    ): "bisection comes to the one border where delta is exceeded from any bracket around it",
}


def kind_of(change: Change) -> str | None:
    """The reason why a change is of a kind that no test can find, or None."""
    return next((why for kind, why in KINDS if _plainly(change.original, kind) == _plainly(change.mutant, kind)), None)


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
