"""What is wrong with a plan, collected so that all of it is told at once."""

from __future__ import annotations

from hushmeter.errors import PlanError


def in_words(text: str) -> bool:
    """Whether a text says anything: it holds a letter or a digit."""
    return any(c.isalnum() for c in text)


class Problems:
    """Lines of path, value and what is allowed."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, path: str, value: object, allowed: str) -> None:
        """Adds one problem, unless it has been told already, for example of another resolution.

        Args:
            path: in the file, with dots.
            value: what stands there.
            allowed: what may stand there, or what to do.
        """
        shown = str(value)
        line = f"{path}: {allowed} (got {shown if len(shown) <= 80 else shown[:77] + '...'})"
        if line not in self._lines:
            self._lines.append(line)

    def raise_any(self) -> None:
        """Raises `PlanError` where there is any."""
        if self._lines:
            raise PlanError("the plan is not valid:\n  " + "\n  ".join(self._lines))
