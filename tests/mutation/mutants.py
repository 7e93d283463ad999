"""mutmut in a copy of the tree: which mutants there are, running some, and what became of each."""

from __future__ import annotations

import ast
import difflib
import fnmatch
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.examples import PROFILE
from tests.mutation.limit import TEST_CPU_S

WHOLE = ("access", "ledger", "release")
SAMPLED = ("consent", "noise", "query", "sealing")
_COPIED = ("src", "tests", "docs", "benchmarks", "proto", "pyproject.toml", "README.md")
_BIN = Path(sys.executable).parent
_SURVIVED, _NO_TEST = 0, 33
"""Exit codes that mutmut writes down: the tests passed; no test comes through the function."""
_TEST_CPU_S = {"few": 30, "quick": 300}
"""Seconds of processor time that one test may take, with few examples and with all."""
_ARTEFACTS = {"unused-ignore", "no-redef"}
"""What mypy says of mutmut's own additions to a module."""


@dataclass(frozen=True)
class Change:
    """What one mutant changes.

    Attributes:
        function: `hushmeter.MODULE.NAME`, or `hushmeter.MODULE.CLASS.NAME`.
        before: the changed lines, stripped.
        after: what stands there instead.
        original: the function's source.
        mutant: its source with the change, under the same name.
    """

    function: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    original: str
    mutant: str


class Mutants:
    """The mutants of a copied tree."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._files = {name: path for path in self._mutated() for name in _results(path)}

    @classmethod
    def copied(cls, source: Path, work: Path, *, again: bool = False) -> Mutants:
        """Copies a tree and mutates the copy.

        Args:
            source: the repository's root.
            work: the copy's place, which is emptied first.
            again: whether the copy of an earlier run stays, and only its tests are copied anew.
        """
        if not again:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
        for name in ("tests",) if again else _COPIED:
            if (source / name).is_dir():
                shutil.copytree(source / name, work / name, dirs_exist_ok=True)
            else:
                shutil.copy2(source / name, work / name)
        # A name that no mutant has: mutmut generates all of them, measures which test comes through what, and stops.
        _mutmut(work, ["run", "hushmeter.none"], "few", may_fail=True)
        return cls(work)

    def chosen(self, seed: int, sample: int) -> list[str]:
        """Every mutant of the whole folders, and a sample of the others, drawn by the seed."""
        whole = [name for name in self._files if name.split(".")[1] in WHOLE]
        others = sorted(name for name in self._files if name.split(".")[1] in SAMPLED)
        return sorted(whole + random.Random(seed).sample(others, min(sample, len(others))))

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Names of mutants by patterns, in which `*` stands for any text."""
        return [name for name in self._files if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]

    def run(self, names: Sequence[str], profile: str) -> None:
        """Tries mutants with the tests that come through them.

        Raises:
            SystemExit: mutmut failed, or left one of them without a verdict.
        """
        if not names:
            return
        _mutmut(self._tree, ["run", *names], profile)
        verdicts = self._verdicts()
        if untried := [name for name in names if verdicts[name] is None]:
            sys.exit(f"mutmut did not try {len(untried)} mutants: {', '.join(untried[:5])}")

    def survivors(self, names: Sequence[str]) -> list[str]:
        """Those of the mutants that no test has found, or comes through."""
        verdicts = self._verdicts()
        return [name for name in names if verdicts[name] in {_SURVIVED, _NO_TEST}]

    def ill_typed(self, names: Sequence[str]) -> set[str]:
        """Those of the mutants that mypy refuses where it accepts the original."""
        files = sorted({str(self._files[name].relative_to(self._tree / "mutants")) for name in names})
        if not files:
            return set()
        command = [_BIN / "mypy", "--output", "json", *files]
        said = subprocess.run(command, cwd=self._tree / "mutants", capture_output=True, text=True, check=False)
        errors = defaultdict[Path, list[dict[str, object]]](list)
        for line in said.stdout.splitlines():
            error = json.loads(line)
            if error["severity"] == "error" and error["code"] not in _ARTEFACTS:
                errors[self._tree / "mutants" / error["file"]].append(error)
        refused = set[str]()
        for file, found in errors.items():
            refused |= {f"{_module(self._tree, file)}.{function}" for function in _refused(file, found)}
        return refused & set(names)

    def change(self, name: str) -> Change:
        """The lines that a mutant changes."""
        path, function = self._files[name], name.rpartition(".")[2]
        original = function.partition("__mutmut_")[0]
        spans = _functions(path)
        before, after = (_source(path, spans[f]).replace(f, original) for f in (f"{original}__mutmut_orig", function))
        lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
        plain = original.removeprefix("x_") if original.startswith("x_") else original.removeprefix("xǁ").replace("ǁ", ".")
        return Change(
            f"{_module(self._tree, path)}.{plain}",
            tuple(line[2:].strip() for line in lines if line.startswith("- ")),
            tuple(line[2:].strip() for line in lines if line.startswith("+ ")),
            before,
            after,
        )

    def _verdicts(self) -> dict[str, int | None]:
        return {name: code for path in self._mutated() for name, code in _results(path).items()}

    def _mutated(self) -> Iterator[Path]:
        return (Path(str(meta).removesuffix(".meta")) for meta in sorted((self._tree / "mutants/src").rglob("*.py.meta")))


def _mutmut(tree: Path, arguments: Sequence[str], profile: str, *, may_fail: bool = False) -> None:
    environment = os.environ | {
        PROFILE: profile,
        TEST_CPU_S: str(_TEST_CPU_S[profile]),
        "CI": "1",
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [_BIN / "mutmut", *arguments], cwd=tree, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode and not may_fail:
        sys.exit(f"mutmut failed:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}")


def _results(path: Path) -> dict[str, int | None]:
    results: dict[str, int | None] = json.loads(Path(f"{path}.meta").read_text())["exit_code_by_key"]
    return results


def _module(tree: Path, path: Path) -> str:
    return ".".join(path.relative_to(tree / "mutants/src").with_suffix("").parts)


@cache
def _functions(path: Path) -> dict[str, tuple[int, int]]:
    """Every generated function of a mutated module, with its first and last line."""
    return {
        node.name: (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse("\n".join(_lines(path))))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name
    }


@cache
def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _source(path: Path, span: tuple[int, int]) -> str:
    return textwrap.dedent("\n".join(_lines(path)[span[0] - 1 : span[1]]))


def _refused(path: Path, errors: Sequence[dict[str, object]]) -> Iterator[str]:
    """Functions with an error that their originals do not have."""
    spans = _functions(path).items()
    found = defaultdict[str, set[object]](set)
    for error in errors:
        line = int(str(error["line"]))
        for name, (first, last) in spans:
            if first <= line <= last:
                found[name].add((error["code"], str(error["message"]).replace(name, "")))
    for name, texts in found.items():
        original = f"{name.partition('__mutmut_')[0]}__mutmut_orig"
        if name != original and texts - {(code, text.replace(original, "")) for code, text in found.get(original, ())}:  # type: ignore[misc]
            yield name
