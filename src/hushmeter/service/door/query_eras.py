"""A question, cut to the windows of each version of the plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hushmeter.errors import QueryRefused
from hushmeter.query.answering import CheckedQuestion, Question, check_question
from hushmeter.service.deployment.plan_timeline import Era


def clipped(era: Era, question: Question) -> Question | None:
    """A question about those of its windows that are an era's; None where it has none of them."""
    from_ms, to_ms = max(question.from_ms, era.from_ms), min(question.to_ms, era.until_ms)
    return dataclasses.replace(question, from_ms=from_ms, to_ms=to_ms) if from_ms < to_ms else None


def by_era(eras: Sequence[Era], question: Question) -> list[tuple[Era, CheckedQuestion, Question]]:
    """A question to each era whose windows it is about; an era whose plan cannot answer it is left out.

    Raises:
        QueryRefused: no era can; as the newest of them says.
    """
    asked: list[tuple[Era, CheckedQuestion, Question]] = []
    refusal = None
    # An empty time range is about no era; the newest says what is wrong with it.
    for era in eras:
        mine = clipped(era, question)
        if mine is None and (era is not eras[-1] or asked or refusal):
            continue
        try:
            asked.append((era, check_question(era.plan, mine or question), mine or question))
        except QueryRefused as error:
            refusal = error
    if not asked and refusal is not None:
        raise refusal
    return asked
