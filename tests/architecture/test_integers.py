"""Sealing adds integers up: a float sum would let one unit change another's (P6)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SEALING = Path(__file__).parents[2] / "src" / "hushmeter" / "sealing"
TYPES = {"float", "float16", "float32", "float64", "floating", "double"}
METHODS = {"mean", "average", "sqrt", "log", "log2", "exp", "true_divide"}
OF_ONE_UNIT = {
    "bounding.py::kept": "which points of a unit are looked at first; how far is a number of that unit alone",
    "bounding.py::_below": "the same share, as a border in the unit's own order",
    "bounding.py::_first_pairs": "the same share, as a number of bits",
    "statistics.py::_squares": "by how many bits one unit's events are scaled down",
}
"""Functions whose floats are one unit's own, and are never added up."""


def with_floats(code: str) -> Iterator[str]:
    """Functions of a module in which a float can come into being: by a word, a literal, a division or `weights=`."""
    for function in ast.parse(code).body:
        members = function.body if isinstance(function, ast.ClassDef) else [function]
        for member in members:
            if isinstance(member, ast.FunctionDef) and any(map(_is_float, ast.walk(member))):
                yield member.name


def _is_float(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=word):
            return word in TYPES
        case ast.Attribute(attr=word):
            return word in TYPES | METHODS
        case ast.Constant(value=value):
            return isinstance(value, float)
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()) | ast.keyword(arg="weights"):
            return True
    return False


def test_sealing_adds_integers_up() -> None:
    """No function of sealing makes a float, but for those that look at one unit alone."""
    found = {
        f"{path.name}::{name}" for path in SEALING.glob("*.py") for name in with_floats(path.read_text(encoding="utf-8"))
    }
    assert found == OF_ONE_UNIT.keys()


@pytest.mark.parametrize(
    "line",
    [
        "np.bincount(cells, weights=values)",
        "values.astype(np.float64).cumsum()",
        "values.astype(float).sum()",
        "values / events",
        "0.5 * values",
        "values.mean()",
    ],
)
def test_a_float_is_found(line: str) -> None:
    """Each way in which a float sum would come in is seen, in functions and methods."""
    assert list(with_floats(f"def added(values):\n    return {line}")) == ["added"]
    assert list(with_floats(f"class Sums:\n    def added(self, values):\n        return {line}")) == ["added"]
    assert list(with_floats("def added(values):\n    return np.add.reduceat(values, starts) // 2")) == []
