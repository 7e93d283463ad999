"""ConsentService: decisions per purpose (P8), erasure, and what is held on a unit (R3); the default is not given."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import grpc

from hushmeter import limits
from hushmeter.access.rates import UnitRates
from hushmeter.access.unit_tokens import ISSUER_KEY_NAME, is_valid, issue
from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.errors import ConsentRefused, Forbidden, MalformedMessage, Overloaded, RateLimited, Unauthenticated
from hushmeter.ingest.admission import RATE_RETRY_MS
from hushmeter.model.consent import Decision, PurposeState
from hushmeter.model.plan import Asking, Purpose
from hushmeter.service.deployment.context import Context
from hushmeter.service.disclosure.public_record import signed_receipt
from hushmeter.service.disclosure.unit_holdings import HeldErasure, Holdings, holdings
from hushmeter.service.door.methods import unary
from hushmeter.service.door.passage import passage
from hushmeter.service.intake.intake import Intake
from hushmeter.transparency.receipt import erased_by_ms

CONSENT_SERVICE = pb.DESCRIPTOR.services_by_name["ConsentService"].full_name
_NOBODY = bytes(16)


class ConsentService:
    """Records and reads consent decisions.

    Args:
        context: the deployment.
        intake: where decisions and erasures go.
    """

    def __init__(self, context: Context, intake: Intake) -> None:
        self._context = context
        self._intake = intake
        self._key: bytes | None = None
        self._reads = UnitRates(limits.READING_PER_UNIT_AND_MINUTE)
        self._reading, self._asking = asyncio.Lock(), 0

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The methods as gRPC wants them."""
        return grpc.method_handlers_generic_handler(
            CONSENT_SERVICE,
            {
                "SetConsent": unary(self.set_consent, pb.SetConsentRequest, pb.SetConsentResponse),
                "GetConsent": unary(self.get_consent, pb.GetConsentRequest, pb.GetConsentResponse),
                "IssueUnitToken": unary(self.issue_unit_token, pb.IssueUnitTokenRequest, pb.IssueUnitTokenResponse),
                "EraseUnit": unary(self.erase_unit, pb.EraseUnitRequest, pb.EraseUnitResponse),
                "GetUnit": unary(self.get_unit, pb.GetUnitRequest, pb.GetUnitResponse),
            },
        )

    async def set_consent(self, request: pb.SetConsentRequest) -> pb.SetConsentResponse:
        """Records decisions, and says from which windows on they hold."""
        unit_id = await self._own(request.unit_id, request.unit_token)
        decisions = self._checked(request.decisions)
        states, received_at_ms = await self._intake.decide(unit_id, decisions)
        reaches = [
            pb.ReachedWindow(resolution=w.resolution, window_start_ms=w.start_ms, window_end_ms=w.end_ms)
            for w in self._context.reached(received_at_ms)
        ]
        return pb.SetConsentResponse(states=_states(states), received_at_ms=received_at_ms, reaches=reaches)

    async def get_consent(self, request: pb.GetConsentRequest) -> pb.GetConsentResponse:
        """Reads a unit's decisions as they bind now."""
        unit_id = await self._own(request.unit_id, request.unit_token)
        return pb.GetConsentResponse(states=_states(await self._intake.consent_of(unit_id)))

    async def issue_unit_token(self, request: pb.IssueUnitTokenRequest) -> pb.IssueUnitTokenResponse:
        """Signs a token of one unit, for a caller with a credential.

        A caller who comes in while nobody is asked for one gets none: it could still be shown once everybody is asked.
        """
        if passage().credential is None:
            raise Forbidden(
                "unit tokens are issued to credentials alone, and nobody is asked for one here; make the first with "
                "'hushmeter credential create --role consent'"
            )
        unit_id, lifetime_s = _checked_unit(request.unit_id), request.lifetime_s or limits.UNIT_TOKEN_LIFETIME_DEFAULT_S
        if not 1 <= lifetime_s <= limits.UNIT_TOKEN_LIFETIME_MAX_S:
            raise MalformedMessage(f"lifetime_s is {lifetime_s}; it must be 1 to {limits.UNIT_TOKEN_LIFETIME_MAX_S}")
        expires_ms = self._intake.now_ms() + 1000 * lifetime_s
        token = issue(await self._token_key(), unit_id, expires_ms)
        return pb.IssueUnitTokenResponse(unit_token=token, expires_ms=expires_ms)

    async def erase_unit(self, request: pb.EraseUnitRequest) -> pb.EraseUnitResponse:
        """Withdraws all consent of a unit and has its rows removed; the answer is made of time and plan alone (R3)."""
        unit_id = await self._own(request.unit_id, request.unit_token)
        received_at_ms = await self._intake.erase(unit_id)
        receipt = await asyncio.to_thread(signed_receipt, self._context, received_at_ms)
        gone_by_ms = erased_by_ms(self._context.timeline.at(received_at_ms).plan, received_at_ms)
        return pb.EraseUnitResponse(received_at_ms=received_at_ms, rows_gone_by_ms=gone_by_ms, receipt=receipt)

    async def get_unit(self, request: pb.GetUnitRequest) -> pb.GetUnitResponse:
        """What raw data is held on a unit now; with its token alone, and no oftener than files can be read for it."""
        unit_id = await self._own(request.unit_id, request.unit_token, always=True)
        if self._asking >= limits.READING_AT_ONCE_MAX:
            raise Overloaded
        judged = self._reads.judge([unit_id], self._context.clock.monotonic_s())
        if judged.crowded:
            raise Overloaded
        if judged.over:
            most = limits.READING_PER_UNIT_AND_MINUTE
            raise RateLimited(f"the unit asks more than {most} times a minute; ask again in a minute", RATE_RETRY_MS / 1000)
        self._reads.settle()
        await passage().note("GetUnit")
        self._asking += 1
        try:
            async with self._reading:
                allowed, now_ms = await self._intake.allowed_by(unit_id)
                subject = self._intake.subject(unit_id)
                return _held(await asyncio.to_thread(holdings, self._context, subject, allowed, now_ms))
        finally:
            self._asking -= 1

    async def _own(self, unit_id: str, token: bytes, *, always: bool = False) -> bytes:
        """The unit's id, which its token proves where tokens are asked for, or always (R3)."""
        raw = _checked_unit(unit_id)
        if always and passage().credential is None:
            raise Unauthenticated(
                "what is held on a unit is told with its token alone, and none are issued while nobody is asked for a "
                "credential; make the first with 'hushmeter credential create --role consent'"
            )
        asked = always or self._intake.rules.unit_tokens
        if asked and not is_valid(await self._token_key(), raw, token, self._intake.now_ms()):
            raise Unauthenticated(
                "unit_token is missing, expired, damaged, or another unit's; fetch a new one for this unit with "
                "ConsentService.IssueUnitToken and ask again"
            )
        return raw

    async def _token_key(self) -> bytes:
        if self._key is None:
            self._key = await asyncio.to_thread(self._context.keys.get_or_create, ISSUER_KEY_NAME)
        return self._key

    def _checked(self, decisions: Sequence[pb.Decision]) -> list[Decision]:
        plan = self._context.plan
        purposes = {p.name: p for p in plan.purposes}
        withdrawn_too = self._context.timeline.purposes()
        if not 1 <= len(decisions) <= limits.DECISIONS_PER_REQUEST_MAX:
            raise ConsentRefused(f"{len(decisions)} decisions; send 1 to {limits.DECISIONS_PER_REQUEST_MAX}, one a purpose")
        if len({d.purpose for d in decisions}) < len(decisions):
            raise ConsentRefused("two decisions about one purpose; send one a purpose")
        return [_checked_decision(d, purposes, withdrawn_too, plan.asking) for d in decisions]


def _checked_decision(
    d: pb.Decision, purposes: Mapping[str, Purpose], withdrawn_too: Collection[str], asking: Asking
) -> Decision:
    """A decision without anything that it could carry besides: decisions are kept, so nothing free may stand in one.

    What any version of the plan asks for can be withdrawn: windows of versions before may still wait (P8).
    """
    if d.purpose not in purposes and (d.given or d.purpose not in withdrawn_too):
        raise ConsentRefused(f"purpose {d.purpose[:64]!r} is not in the plan; its purposes are {', '.join(purposes)}")
    beside = (("locale", d.locale, asking.languages), ("source", d.source, asking.sources))
    if not d.given:
        # Nobody is kept from withdrawing by what stands beside it: that is left out.
        locale, source = (said if said in listed else "" for _, said, listed in beside)
        return Decision(_NOBODY, d.purpose, d.given, 0, b"", locale, source)
    _ensure_text(d, purposes[d.purpose])
    for name, said, listed in beside:
        if said and said not in listed:
            way = f"send one of {', '.join(listed)}, or leave it out" if listed else "leave it out: the plan lists none"
            raise ConsentRefused(f"{name} is none that the plan lists; {way}")
    return Decision(_NOBODY, d.purpose, d.given, 0, d.text_hash, d.locale, d.source)


def _checked_unit(unit_id: str) -> bytes:
    raw = unit_id.encode()
    if not 1 <= len(raw) <= limits.UNIT_ID_MAX_BYTES:
        raise ConsentRefused(f"unit_id is {len(raw)} bytes long; it must be 1 to {limits.UNIT_ID_MAX_BYTES} bytes of UTF-8")
    return raw


def _ensure_text(decision: pb.Decision, purpose: Purpose) -> None:
    """Consent is given to one text, so a grant names it (P8)."""
    if not decision.text_hash:
        raise ConsentRefused(
            f"consent to {purpose.name} without text_hash; send the SHA-256 of the text that was shown, as GetPlan tells it"
        )
    if decision.text_hash != purpose.text_hash:
        raise ConsentRefused(
            f"consent to another text of {purpose.name} than is in force; read that with GetPlan, show it and ask again"
        )


def _held(found: Holdings) -> pb.GetUnitResponse:
    rows = [
        pb.HeldRows(
            window_start_ms=r.window.start_ms,
            window_end_ms=r.window.end_ms,
            reports=r.reports,
            points=r.points,
            dies_ms=r.dies_ms,
        )
        for r in found.rows
    ]
    kept = [
        pb.HeldKept(
            metric=k.metric,
            resolution=k.resolution,
            period_start_ms=k.period.start_ms,
            period_end_ms=k.period.end_ms,
            windows=k.windows,
            dies_ms=k.dies_ms,
        )
        for k in found.kept
    ]
    erasure = found.erasure or HeldErasure(0, 0)
    return pb.GetUnitResponse(
        rows=rows, kept=kept, decisions=found.decisions, erasure_ms=erasure.at_ms, rows_gone_by_ms=erasure.gone_by_ms
    )


def _reason(state: PurposeState) -> pb.AskReason:
    if state.undecided:
        return pb.ASK_REASON_NEVER_DECIDED
    return pb.ASK_REASON_TEXT_CHANGED if state.outdated else pb.ASK_REASON_UNSPECIFIED


def _states(states: Mapping[str, PurposeState]) -> list[pb.ConsentState]:
    return [
        pb.ConsentState(
            purpose=name,
            given=s.given,
            given_since_ms=s.given_since_ms if s.given else 0,
            ask_again=s.undecided or s.outdated,
            ask_reason=_reason(s),
        )
        for name, s in states.items()
    ]
