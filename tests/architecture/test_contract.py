"""docs/privacy/contract.md says each rule once; citations, enforcers and tests are held to it, in both directions."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "hushmeter"
CONTRACT = ROOT / "docs" / "privacy" / "contract.md"
CHAPTERS = "TPCRE"
"""Time, bounding, calibration and accounting, what may be read, estimates."""

# A citation is a chapter's letter and a number, as a word: (P1), `by C6`, `P4-P7` for all four; `T12:30` is none.
CITATION = re.compile(rf"\b([{CHAPTERS}])([1-9][0-9]?)(?:-\1([1-9][0-9]?))?\b(?!:[0-9])")
# A name is a file and what it defines, in code type: `sealing/rows.py::assigned`, `tests/x.py::TestClass::test_method`.
NAME = re.compile(r"`([\w/]+\.py)::(\w+(?:::\w+)?)`")
FILE = re.compile(r"`(\w+/[\w/]+\.py)`")
# ARCHITECTURE.md's names of files by themselves and of folders count as well: `limits.py`, `sealing/`, `docs/privacy/`.
ON_THE_MAP = re.compile(r"`((?:\w+/)*(?:\w+/|\w+\.(?:py|proto)))`")
HEADING = re.compile(rf"### ([{CHAPTERS}])([1-9][0-9]?)\. \S.*\n")
TESTS = ("tests/", "testing/contracts/")
"""Tests, and the suites of src that they inherit."""
ENFORCED, TESTED = "- Enforced by: ", "- Fails without it: "


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the contract.

    Attributes:
        number: as it is cited.
        words: what it says.
        enforcers: names in src that it is enforced by.
        tests: names of tests that fail without it.
    """

    number: str
    words: str
    enforcers: tuple[str, ...]
    tests: tuple[str, ...]


def cited(text: str) -> Iterator[str]:
    """Every rule that a text cites, those within a range too."""
    for chapter, first, last in CITATION.findall(text):
        for number in range(int(first), int(last or first) + 1):
            yield f"{chapter}{number}"


def names_in(text: str) -> tuple[str, ...]:
    """Every name of a file and what it defines."""
    return tuple(f"{path}::{name}" for path, name in NAME.findall(text))


def rules_of(contract: str) -> list[Rule]:
    """The rules of a contract, in its order; a rule ends where the next heading begins."""
    rules = []
    for section in re.split(r"^(?=##)", contract, flags=re.MULTILINE):
        if heading := HEADING.match(section):
            words, _, rest = section[heading.end() :].partition(ENFORCED)
            enforced, _, tested = rest.partition(TESTED)
            rules.append(Rule(heading[1] + heading[2], words.strip(), names_in(enforced), names_in(tested)))
    return rules


def wrong_in(contract: str) -> list[str]:
    """What does not hold of a contract's rules by themselves, a line each."""
    rules = rules_of(contract)
    numbers = [rule.number for rule in rules]
    expected = [f"{c}{i}" for c in CHAPTERS for i in range(1, 1 + sum(n.startswith(c) for n in numbers))]
    wrong = [] if numbers == expected else [f"rules are numbered {numbers}"]
    wrong += [
        f"there is a rule behind no proper heading: {h}"
        for h in re.findall(r"^### .*$", contract, re.MULTILINE)[len(rules) :]
    ]
    for rule in rules:
        wrong += [f"{rule.number} says nothing"] if not rule.words else []
        wrong += [f"nothing enforces {rule.number}"] if not rule.enforcers else []
        wrong += [f"no test fails without {rule.number}"] if not rule.tests else []
        wrong += [f"{rule.number} is enforced by a test: {name}" for name in rule.enforcers if name.startswith(TESTS)]
        wrong += [f"{rule.number}: {name} is no test" for name in rule.tests if not is_test(name)]
    return wrong + [f"{name} does not exist" for name in names_in(contract) if not exists(name)]


def is_test(name: str) -> bool:
    return name.startswith(TESTS) and name.rpartition("::")[2].startswith("test_")


def exists(name: str) -> bool:
    """Whether a file defines a name; files of src are named from the package on."""
    path, _, symbol = name.partition("::")
    return place_of(path).is_file() and symbol in defined_in(place_of(path))


def not_there(page: str) -> list[str]:
    """Files and folders that a map names and that do not exist.

    A file without a folder is below `src/hushmeter`, or in the folder that its line names first.
    """
    missing = []
    for line in page.splitlines():
        named = ON_THE_MAP.findall(line)
        first = next((name for name in named if name.endswith("/")), "")
        places = (ROOT, SRC, SRC / first)
        missing += [name for name in named if not any((place / name).exists() for place in places)]
    return missing


def place_of(path: str) -> Path:
    """Where a file is that a page names."""
    return (ROOT if path.startswith(("tests/", "benchmarks/")) else SRC) / path


@functools.cache
def defined_in(file: Path) -> frozenset[str]:
    """Functions, classes, their methods, and constants of a module."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


def texts() -> Iterator[Path]:
    """Every file that may cite a rule; generated ones say what proto/ says."""
    for folder in ("src", "tests", "docs", "proto", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".proto"} and not path.stem.endswith(("_pb2", "_pb2_grpc")):
                yield path
    yield from sorted(ROOT.glob("*.md"))


def test_every_citation_has_its_rule() -> None:
    """No file cites a rule that the contract does not have."""
    rules = {rule.number for rule in rules_of(CONTRACT.read_text(encoding="utf-8"))}
    unknown = [
        f"{path.relative_to(ROOT)}:{line}: {number}"
        for path in texts()
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for number in cited(text)
        if number not in rules
    ]
    assert unknown == []


def test_every_rule_is_enforced_and_tested() -> None:
    """Each rule, numbered without gaps, names what enforces it and a test; all of them are there."""
    assert wrong_in(CONTRACT.read_text(encoding="utf-8")) == []


def test_every_rule_is_cited() -> None:
    """Each rule is cited where it is kept: in src or in tests."""
    code = [path for path in texts() if path.suffix == ".py"]
    kept = {number for path in code for number in cited(path.read_text(encoding="utf-8"))}
    assert {rule.number for rule in rules_of(CONTRACT.read_text(encoding="utf-8"))} <= kept


def test_every_suite_is_inherited() -> None:
    """Each contract suite of src is run: some class of tests inherits it, or another suite that is run."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for folder in (SRC / "testing" / "contracts", ROOT / "tests" / "contract")
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    run = {name for name in bases if name.startswith("Test")}
    while more := {base for name in run for base in bases.get(name, ())} - run:
        run |= more
    suites = {name for name in bases if name.endswith("Contract")}
    assert suites
    assert suites <= run


def test_every_name_in_the_docs_is_there() -> None:
    """Functions, tests and Python files that any page names exist: proof sheets rest on them."""
    missing = []
    for path in (path for path in texts() if path.suffix == ".md"):
        text = path.read_text(encoding="utf-8")
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in names_in(text) if not exists(name)]
        missing += [f"{path.relative_to(ROOT)}: {file}" for file in FILE.findall(text) if not place_of(file).is_file()]
    assert missing == []


def test_everything_on_the_map_is_there() -> None:
    """ARCHITECTURE.md names files and folders that exist, and every folder of src, or those in it."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert not_there(page) == []
    folders = {p.parent.relative_to(SRC).as_posix() for p in SRC.rglob("*.py")} - {"."}
    named = set(re.findall(r"`([\w/]+)/`", page))
    covered = named | {name.rpartition("/")[0] for name in named}
    assert {folder for folder in folders if not folder.startswith("api/")} - covered == set()


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("1. `ingest/admission.py`, `limits.py`, `ingest/`, `docs/privacy/`, `proto/`", []),
        ("| `plan/` | `catalog.py`, `reading.py` |", []),
        ("| `plan/` | `admission.py` |", ["admission.py"]),
        ("`ingest/admitting.py` and `intake/`", ["ingest/admitting.py", "intake/"]),
    ],
)
def test_what_is_not_on_the_ground_is_told(line: str, missing: list[str]) -> None:
    """A file or folder that a map names and that is not there is found, and nothing else."""
    assert not_there(line) == missing


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("a unit's own rows alone (P1).", ["P1"]),
        ("charged, once (C4, C6)", ["C4", "C6"]),
        ("every bound (P4-P7)", ["P4", "P5", "P6", "P7"]),
        ("E2: bound the finest rows once", ["E2"]),
        ("by rule C6.", ["C6"]),
        ("the match r'(C4\\)'", ["C4"]),
        ("2026-11-24T12:30:00Z, T12:30, T1:00", []),
        ("P1D, XP1, p1, C0, R2D2, sha-C", []),
    ],
)
def test_a_citation_is_what_stands_as_one(text: str, rules: list[str]) -> None:
    """Rules are found in every form in which they are cited, and nothing else is taken for one."""
    assert list(cited(text)) == rules


RIGHT = """## Time
### T1. UTC
Time is UTC.

- Enforced by: `model/time.py::Span::parse` (spans), `limits.py::UNITS_MAX`
- Fails without it: `tests/architecture/test_contract.py::test_every_citation_has_its_rule`
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", []),
        ("T1. UTC", "T2. UTC", ["rules are numbered ['T2']"]),
        ("Time is UTC.", "", ["T1 says nothing"]),
        ("- Fails without it:", "- Tested by:", ["no test fails without T1"]),
        ("- Enforced by:", "- Kept by:", ["nothing enforces T1", "no test fails without T1"]),
        ("Span::parse", "Span::guess", ["model/time.py::Span::guess does not exist"]),
        ("limits.py", "bounds.py", ["bounds.py::UNITS_MAX does not exist"]),
        (
            "it: `tests/architecture/test_contract.py::test_every",
            "it: `model/time.py::every",
            ["T1: model/time.py::every_citation_has_its_rule is no test"],
        ),
    ],
)
def test_what_is_wrong_with_a_contract_is_told(old: str, new: str, told: list[str]) -> None:
    """A rule without words, number, enforcer or test, and a name that is not there, are each told."""
    assert [line for line in wrong_in(RIGHT.replace(old, new, 1)) if line in told] == told
    assert wrong_in(RIGHT) == []
