"""One word, one meaning: no public name of src stands in two modules, and no word of the glossary is defined twice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "hushmeter"
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def public_names(code: str) -> Iterator[str]:
    """Classes, functions and constants that a module defines at its top level, without those that begin with `_`."""
    for node in ast.parse(code).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names = [name]
            case ast.Assign(targets=targets):
                names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_"))


def of_two_modules(modules: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """By name, the modules that define it, where they are more than one.

    Args:
        modules: path and code of each.
    """
    places = defaultdict(set)
    for path, code in modules:
        for name in public_names(code):
            places[name].add(path)
    return {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}


def rows_of(page: str) -> list[list[str]]:
    """The cells of all rows of a page's tables that define words."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0] != "word" and set(row[0]) != {"-"}]


def defined_twice(page: str) -> list[str]:
    """Words that a glossary defines more than once, whether alone or beside another word."""
    words = [word.strip().lower() for row in rows_of(page) for word in row[0].split(",")]
    return sorted({word for word in words if words.count(word) > 1})


def test_no_public_name_stands_in_two_modules() -> None:
    """Whoever reads a name knows which thing it is, wherever it was imported from."""
    modules = ((path.relative_to(SRC).as_posix(), path.read_text(encoding="utf-8")) for path in SRC.rglob("*.py"))
    # What protoc writes, and what alembic asks of each of its steps.
    others = ("api/", "storage/state/migrations/versions/")
    assert of_two_modules((path, code) for path, code in modules if not path.startswith(others)) == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("class Seal: pass", "def Seal(): pass"),
        ("Seal = 1", "Seal: int = 2"),
        ("async def Seal(): pass", "Bag, Seal = 1, 2"),
    ],
)
def test_a_name_of_two_modules_is_found(first: str, second: str) -> None:
    """A class, function or constant is found beside any other of its name; private and inner names are not."""
    assert of_two_modules([("a.py", first), ("b.py", second)]) == {"Seal": ["a.py", "b.py"]}
    private = first.replace("Seal", "_Seal")
    assert of_two_modules([("a.py", private), ("b.py", private)]) == {}
    inner = "def f{}():\n    Seal = 1\n"
    assert of_two_modules([("a.py", first), ("b.py", inner.format(1))]) == {}


def test_each_word_is_defined_once() -> None:
    """The glossary has a meaning and a place for each word, and only one."""
    assert defined_twice(GLOSSARY) == []
    rows = rows_of(GLOSSARY)
    assert len(rows) > 80
    for row in rows:
        assert len(row) == 3, row
        assert re.fullmatch(r"`[\w/]+\.py(::\w+)*`", row[2]), row


def test_a_word_that_is_defined_twice_is_found() -> None:
    """Also where it stands beside another word, in another table or in other letters."""
    page = "| word | means | lives in |\n| --- | --- | --- |\n| seal | one | `a.py` |\n| tally | two | `b.py` |\n"
    assert defined_twice(page) == []
    assert defined_twice(page + "\ntext\n\n| close, Seal | three | `c.py` |\n") == ["seal"]
    assert defined_twice(page + "| tally | two | `b.py` |\n") == ["tally"]
