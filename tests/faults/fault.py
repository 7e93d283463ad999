"""What a planted fault is: a change of one place of the code, and what must catch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: what is wrong, in a few words.
        path: of the file below `src/hushmeter`.
        old: text that is there exactly once.
        new: what it is replaced by.
        only: the part of the audit that is enough, as `--only` takes it.
        check: how the name of the check begins that must fail.
        test: of a fault that nobody but the operator can see, or that the audit does not provoke, the test that must fail.
    """

    name: str
    path: str
    old: str
    new: str
    only: str = ""
    check: str = ""
    test: str = ""
