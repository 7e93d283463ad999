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
)

Key = tuple[str, tuple[str, ...], tuple[str, ...]]
ONES: dict[Key, str] = {
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
        if isinstance(node.func, ast.Name) and node.func.id == self._kind:
            node.args = node.args[:1] if self._kind == "ensure" else node.args
            node.keywords = [k for k in node.keywords if k.arg != "strict"]
        return node


def _plainly(source: str, kind: str) -> str:
    return ast.dump(_Plain(kind).visit(ast.parse(source)))
