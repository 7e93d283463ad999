"""The tree of errors that the module of errors begins with is the tree of its classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from hushmeter import errors

_STEP = 4


def drawn() -> list[tuple[str, int]]:
    """Names and depths in the drawing, line by line."""
    lines = inspect.getdoc(errors).splitlines()  # type: ignore[union-attr]
    tree = [line[_STEP:] for line in lines if line.startswith(" " * _STEP)]
    bare = [line.translate(str.maketrans("├└│─", "    ")) for line in tree]
    return [(line.strip(), (len(line) - len(line.lstrip())) // _STEP) for line in bare]


def defined(kind: type[Exception], depth: int = 0) -> Iterator[tuple[str, int]]:
    """Names and depths of a class and of those below it, in the order in which they are defined."""
    yield kind.__name__, depth
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from defined(below, depth + 1)


def test_the_drawing_is_the_tree_of_classes() -> None:
    """Each error stands in the drawing once, below the one that it is a kind of."""
    assert drawn() == list(defined(errors.HushmeterError))


def test_every_error_is_in_the_tree() -> None:
    """No error of the module stands beside the tree, and none is of two kinds."""
    kinds = [k for k in vars(errors).values() if inspect.isclass(k) and k.__module__ == errors.__name__]
    assert sorted(k.__name__ for k in kinds) == sorted(name for name, _ in drawn())
    assert all(len(k.__bases__) == 1 for k in kinds)
