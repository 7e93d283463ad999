"""What a deployment signs, made of plan versions, ledger and released estimates alone (R1), or of plan and time (R3)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hushmeter.plan.built_in import PARTICIPANTS
from hushmeter.plan.reading import parse_recorded
from hushmeter.query.answering import Question, answer, check_question
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.plan_timeline import Era
from hushmeter.service.disclosure.verified_releases import public_from, released
from hushmeter.signatures import SIGNING_KEY_NAME
from hushmeter.transparency import html, markdown
from hushmeter.transparency.receipt import RECEIPT, erasure_receipt
from hushmeter.transparency.record import Published, PublishedEstimate, public_record
from hushmeter.transparency.signing import SIGNED_RECORD
from hushmeter.transparency.words import RecordFormat


def signed_record(context: Context) -> str:
    """The deployment's record, signed with its key: see `hushmeter.transparency`."""
    versions = [(v, parse_recorded(v.plan_text)) for v in context.timeline.recorded()]
    deployment_id = context.deployment.deployment_id
    published = Published(
        deployment_id,
        versions,
        tuple(context.store.ledger(public_from(context.store))),
        tuple(_participation(context)),
        context.store.restores(deployment_id),
    )
    return SIGNED_RECORD.signed(public_record(published, context.mechanisms), context.keys.get_or_create(SIGNING_KEY_NAME))


def signed_receipt(context: Context, received_at_ms: int) -> str:
    """The receipt of an erasure that was received at a moment: see `hushmeter.transparency.receipt`."""
    era, deployment_id = context.timeline.at(received_at_ms), context.deployment.deployment_id
    receipt = erasure_receipt(deployment_id, era.plan, era.version.budget, received_at_ms, context.mechanisms)
    return RECEIPT.signed(receipt, context.keys.get_or_create(SIGNING_KEY_NAME))


def written(signed: str, written_as: RecordFormat) -> str:
    """A signed record in one of the formats."""
    match written_as:
        case RecordFormat.MARKDOWN:
            return markdown.markdown_page(json.loads(signed)["record"])
        case RecordFormat.HTML:
            return html.html_page(signed)
        case RecordFormat.JSON:
            return signed + "\n"


def _participation(context: Context) -> Iterator[PublishedEstimate]:
    for era in context.timeline.eras:
        metric = next((m for m in era.plan.built_in if m.name == PARTICIPANTS), None)
        if metric is not None:
            yield from _estimates(context, era, metric.at[-1])


def _estimates(context: Context, era: Era, resolution: str) -> Iterator[PublishedEstimate]:
    question = Question(PARTICIPANTS, ("purpose",), resolution, max(0, era.from_ms), era.until_ms)
    checked = check_question(era.plan, question)
    releases = released(context.store, PARTICIPANTS, checked.view, resolution, question.from_ms, question.to_ms)
    for found in answer(checked, releases, {}):
        (estimate,) = found.estimates
        for row, labels in enumerate(found.partitions):
            cell = (float(column[row, 0]) for column in (estimate.values, estimate.low, estimate.high))
            yield PublishedEstimate(PARTICIPANTS, labels[0], resolution, found.window_start_ms, found.window_end_ms, *cell)
