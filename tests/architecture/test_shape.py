from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hushmeter.model.states import WINDOW_TRANSITIONS, WindowState
from hushmeter.storage.state.schema import METADATA, SCHEMA_VERSION

ROOT = Path(__file__).parents[2]
MODULES = sorted(p for p in (ROOT / "src" / "hushmeter").rglob("*.py") if "api" not in p.parts)
BESIDE = sorted(p for folder in ("tests", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
ARCHITECTURE_LINES_MAX = 250


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_modules_and_functions_stay_small(path: Path) -> None:
    """No module is longer than 400 lines and no function longer than 70."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", BESIDE, ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_and_benchmarks_stay_small(path: Path) -> None:
    """No file of tests or benchmarks is longer than 400 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES_MAX


def imports_of(path: Path) -> set[str]:
    """Full names of what a module imports: `a.b` of `from a import b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            above = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            found |= {above + name.name for name in node.names}
    return found


@pytest.mark.parametrize("path", BESIDE, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_imported_from_a_module_of_tests(path: Path) -> None:
    """What two modules of tests share lies in a module that helps both."""
    ours = [name for name in imports_of(path) if name.startswith("tests.")]
    assert not [name for name in ours if any(part.startswith("test_") for part in name.split("."))]


def test_helpers_of_tests_have_names_of_their_own() -> None:
    """No two modules that help tests define a public function or class of one name; each program has its `main`."""
    places: dict[str, list[str]] = {}
    for path in BESIDE:
        if path.is_relative_to(ROOT / "tests") and not path.name.startswith("test_"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith(
                    "_"
                ):
                    places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: found for name, found in places.items() if len(found) > 1 and name != "main"}


def test_only_noise_imports_opendp() -> None:
    """OpenDP is imported in noise/ alone."""
    for path in MODULES:
        if "noise" not in path.parts:
            assert not any(name.split(".")[0] == "opendp" for name in imports_of(path)), path


def test_the_pipeline_fits_one_screen() -> None:
    """The whole job is read in at most 80 lines of code."""
    lines = (ROOT / "src" / "hushmeter" / "pipeline/window_release.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 80


def test_the_map_fits_its_page() -> None:
    """ARCHITECTURE.md stays a map."""
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= ARCHITECTURE_LINES_MAX


def mermaid_diagram() -> str:
    """The table as a Mermaid state diagram, for docs/data_model.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {WindowState.OPEN}"]
    lines += [f"    {state} --> {after}: {event}" for (state, event), after in WINDOW_TRANSITIONS.items()]
    ends = [s for s in WindowState if all(s is not state for state, _ in WINDOW_TRANSITIONS)]
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(lines)


def test_the_diagram_in_the_docs_is_the_table() -> None:
    """docs/data_model.md shows the transitions that the code has."""
    assert mermaid_diagram() in (ROOT / "docs" / "data_model.md").read_text(encoding="utf-8")


def test_the_tables_in_the_docs_are_the_stores() -> None:
    """docs/data_model.md has a row for each table of the state store, and no other, and says its schema version."""
    page = (ROOT / "docs" / "data_model.md").read_text(encoding="utf-8")
    state = page.partition("## State\n")[2].partition("\n#")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", state, re.MULTILINE)) == METADATA.tables.keys()
    assert f"schema version {SCHEMA_VERSION}" in state


def test_the_light_client_needs_grpc_and_protobuf_alone() -> None:
    """What `pip install hushmeter` brings is enough to import the SDK: nothing else is imported by it."""
    import subprocess
    import sys

    code = (
        "import sys; import hushmeter.sdk; "
        "heavy = {'numpy', 'pydantic', 'pyarrow', 'opendp', 'sqlalchemy', 'typer', 'rich', 'yaml', 'cryptography'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
