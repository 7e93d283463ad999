"""A command whose package is missing says which extra brings it."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from hushmeter import __main__ as script
from hushmeter.cli.extras import missing_extra


@pytest.mark.parametrize(
    ("module", "extra"),
    [("typer", "analyst"), ("pyarrow.csv", "analyst"), ("matplotlib", "plot"), ("sqlalchemy", "server")],
)
def test_each_package_has_its_extra(capsys: pytest.CaptureFixture[str], module: str, extra: str) -> None:
    """The package is named as people install it, with the extra, and the status is 2."""
    assert missing_extra(ModuleNotFoundError(name=module)) == 2
    said = capsys.readouterr().err
    assert f"needs the package '{module.partition('.')[0]}', which comes with: pip install 'hushmeter[{extra}]'" in said


def test_without_the_command_lines_own_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The script also says so where the command line itself cannot be imported."""
    load = builtins.__import__

    def without_typer(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "hushmeter.cli.app":
            raise ModuleNotFoundError(name="typer")
        return load(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_typer)
    assert script.main() == 2
    assert "hushmeter[analyst]" in capsys.readouterr().err
