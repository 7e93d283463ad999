"""How the call in hand came in: whose credential it proved, what its caller may read, and what is noted of it.

Why a call that passed no gate can have an open passage, and this is no way around the gate:

- The gate refuses a call by putting a handler of its own in the place of the method. A method that the table of roles does
  not leave to everybody therefore runs only after the gate has set the passage of its call; whether it runs never depends
  on this variable.
- gRPC runs each call as a task of its own, in which the gate, the method and the whole stream follow one another. A task
  begins with a copy of the variables of the one that made it, and the server's own task never sets this one. So no call
  sees the passage of another, and none that passed the gate sees the open one.
- What a method starts keeps the passage: tasks and `asyncio.to_thread` copy the variables of the caller. Threads that the
  service started before (the intake's, the gate's, an executor's) do not, and nothing on them asks for a passage.
- A passage is asked again what the gate knows at that moment, also where nobody was asked for a credential when the call
  came in. A call keeps its own `Passage`, and nothing turns that into the open one.

Open are only the methods that the table of roles leaves to everybody, and calls of a method without a server.
"""

from __future__ import annotations

from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Protocol

from hushmeter.access.credentials import Credential
from hushmeter.access.roles import Role
from hushmeter.errors import Forbidden
from hushmeter.model.plan import Metric


class Guard(Protocol):
    """Who decides about a call after it came in."""

    def ensure_admitted(self, credential: Credential | None) -> None:
        """Makes sure that who came in would be let in now; raises `Refusal` or `Failure` where not."""

    def admit_message(self, credential: Credential | None) -> None:
        """Takes one more message in; raises `Refusal` or `Failure` where it may not come."""

    async def note(self, credential: Credential, what: str, purposes: tuple[str, ...], refused: str) -> None:
        """Writes a line of the access log."""


class _NoGuard:
    """Lets everything through: for calls that passed no gate."""

    def ensure_admitted(self, credential: Credential | None) -> None:
        """See `Guard`."""

    def admit_message(self, credential: Credential | None) -> None:
        """See `Guard`."""

    async def note(self, credential: Credential, what: str, purposes: tuple[str, ...], refused: str) -> None:
        """See `Guard`; there is nobody to note."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One call that was let in.

    Attributes:
        credential: whose; None where nobody is asked who they are.
    """

    credential: Credential | None
    _guard: Guard = field(repr=False)

    def another_message(self) -> None:
        """Takes a further message of a stream in; raises as `Gate.admit_message` does."""
        self._guard.admit_message(self.credential)

    def another_answer(self) -> None:
        """Lets a further answer of a stream out; raises as `Gate.ensure_admitted` does."""
        self._guard.ensure_admitted(self.credential)

    def serves(self, purposes: Collection[str]) -> bool:
        """Whether the caller may read what people allowed for these purposes."""
        mine = self.credential
        return mine is None or mine.role is Role.OPERATOR or any(p in mine.purposes for p in purposes)

    async def note(self, what: str, purposes: tuple[str, ...] = (), refused: str = "") -> None:
        """Writes a line of the access log; what cannot be written there is not answered."""
        if self.credential is not None:
            await self._guard.note(self.credential, what, purposes, refused)

    async def ask(self, what: str, metric: Metric, parts: Collection[Collection[str]] = ()) -> None:
        """Notes a query about a metric, and refuses it where none of the metric's purposes is the credential's.

        Args:
            what: the method.
            metric: that is asked about.
            parts: the purposes of each part of it that is asked for by name, where parts have purposes of their own.

        Raises:
            Forbidden: it is outside its purposes.
        """
        mine = self.credential
        if mine is None:
            return
        outside = next((part for part in (metric.purposes, *parts) if not self.serves(part)), None)
        text = ""
        if outside is not None:
            text = (
                f"this credential may ask for {', '.join(mine.purposes)}; people allowed {metric.name} for "
                f"{', '.join(outside)} alone: ask for a metric of a purpose of yours (ListMetrics tells), or ask an "
                "operator for a credential of that purpose"
            )
        shared = tuple(p for p in metric.purposes if outside is None and self.serves((p,)))
        await self.note(f"{what} {metric.name}", shared, text)
        if text:
            raise Forbidden(text)


OPEN_PASSAGE: Final = Passage(None, _NoGuard())
"""Of calls that passed no gate: nobody asks who they are, and nothing of them is noted."""
_passage: ContextVar[Passage] = ContextVar("passage", default=OPEN_PASSAGE)


def passage() -> Passage:
    """How the call in hand came in; `OPEN_PASSAGE` where it passed no gate."""
    return _passage.get()


def come_in(let_in: Passage) -> None:
    """Makes a passage that of the call in hand: of this task, and of all that it starts from now on."""
    _passage.set(let_in)
