from __future__ import annotations

import asyncio

import pytest

from hushmeter import limits
from hushmeter.errors import Overloaded
from hushmeter.ingest.raw import SentReports
from hushmeter.service.intake.queue import IntakeQueue


def message(reports: int, points: int, tokens: int = 0) -> SentReports:
    """A message of so many reports, the first of which has all the points, and a table of so many tokens."""
    rest = [b""] * (reports - 1)
    return SentReports(
        rows=[(b"", b"", 0, 0, 0)] * reports,
        series=[bytes(4 * points), *rest],
        values=[bytes(8 * points), *rest],
        numbers=[b"", *rest],
        tables={0: [b"%d" % i for i in range(tokens)]} if tokens else {},
    )


@pytest.mark.parametrize(
    ("name", "size"),
    [("QUEUED_REPORTS_MAX", (5, 1, 0)), ("QUEUED_POINTS_MAX", (1, 5, 0)), ("QUEUED_TOKENS_MAX", (1, 1, 5))],
)
def test_the_queue_holds_its_bound_and_no_more(
    monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int, int]
) -> None:
    """What fits exactly waits; one report, point or token more is refused, and fits again once a group was taken."""
    monkeypatch.setattr(limits, name, 5)

    async def fill() -> None:
        queue = IntakeQueue()
        queue.put(message(*size))
        with pytest.raises(Overloaded, match="try again in a moment"):
            queue.put(message(1, 1, 1))
        assert len(queue.take_group()) == 1
        queue.put(message(1, 1, 1))

    asyncio.run(fill())


def test_a_refusal_tells_nothing_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of others waits, whoever is refused reads the same words (R4)."""
    for name in ("QUEUED_REPORTS_MAX", "QUEUED_POINTS_MAX", "QUEUED_TOKENS_MAX"):
        monkeypatch.setattr(limits, name, 1_000)

    async def refusal(reports: int, points: int, tokens: int) -> str:
        queue = IntakeQueue()
        queue.put(message(reports, points, tokens))
        with pytest.raises(Overloaded) as refused:
            queue.put(message(1_000, 1_000, 1_000))
        return str(refused.value)

    texts = {asyncio.run(refusal(*sizes)) for sizes in [(1, 1, 1), (137, 411, 0), (1_000, 1_000, 1_000)]}
    assert len(texts) == 1


@pytest.mark.parametrize("name", ["GROUP_COMMIT_REPORTS_MAX", "GROUP_COMMIT_POINTS_MAX"])
def test_groups_are_bounded_and_in_order(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A group ends with the message that reaches its bound; a message is never split; order is kept."""
    monkeypatch.setattr(limits, name, 4)

    async def take() -> None:
        queue = IntakeQueue()
        put = [queue.put(message(2, 2)) for _ in range(5)]
        assert queue.take_group() == put[:2]
        assert queue.take_group() == put[2:4]
        assert queue.take_group() == put[4:]
        assert queue.take_group() == []

    asyncio.run(take())
