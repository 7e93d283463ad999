"""ConsentService: decisions per purpose; the default is not given, and no setting changes that (P8)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import grpc

from hushmeter import limits
from hushmeter.access.unit_tokens import KEY_NAME, is_valid, issue
from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.errors import ConsentRefused, MalformedMessage, Unauthenticated
from hushmeter.model.consent import Decision, PurposeState
from hushmeter.model.plan import Purpose
from hushmeter.service.context import Context
from hushmeter.service.statuses import unary
from hushmeter.service.worker import IntakeWorker

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["ConsentService"].full_name
_NOBODY = bytes(16)


class ConsentService:
    """Records and reads consent decisions.

    Args:
        context: the deployment.
        worker: which keeps the sequence of decisions.
    """

    def __init__(self, context: Context, worker: IntakeWorker) -> None:
        self._context = context
        self._worker = worker
        self._key: bytes | None = None

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The methods as gRPC wants them."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "SetConsent": unary(self.set_consent, pb.SetConsentRequest, pb.SetConsentResponse),
                "GetConsent": unary(self.get_consent, pb.GetConsentRequest, pb.GetConsentResponse),
                "IssueUnitToken": unary(self.issue_unit_token, pb.IssueUnitTokenRequest, pb.IssueUnitTokenResponse),
            },
        )

    async def set_consent(self, request: pb.SetConsentRequest) -> pb.SetConsentResponse:
        """Records decisions; they bind from the answer on."""
        unit_id = await self._own(request.unit_id, request.unit_token)
        decisions = self._checked(request.decisions)
        states, received_at_ms = await self._worker.decide(unit_id, decisions)
        return pb.SetConsentResponse(states=_states(states), received_at_ms=received_at_ms)

    async def get_consent(self, request: pb.GetConsentRequest) -> pb.GetConsentResponse:
        """Reads a unit's decisions as they bind now."""
        unit_id = await self._own(request.unit_id, request.unit_token)
        return pb.GetConsentResponse(states=_states(await self._worker.consent_of(unit_id)))

    async def issue_unit_token(self, request: pb.IssueUnitTokenRequest) -> pb.IssueUnitTokenResponse:
        """Signs a token of one unit."""
        unit_id, lifetime_s = _checked_unit(request.unit_id), request.lifetime_s or limits.UNIT_TOKEN_LIFETIME_DEFAULT_S
        if not 1 <= lifetime_s <= limits.UNIT_TOKEN_LIFETIME_MAX_S:
            raise MalformedMessage(f"lifetime_s is {lifetime_s}; it must be 1 to {limits.UNIT_TOKEN_LIFETIME_MAX_S}")
        expires_ms = self._context.clock.now_ms() + 1000 * lifetime_s
        token = issue(await self._token_key(), unit_id, expires_ms)
        return pb.IssueUnitTokenResponse(unit_token=token, expires_ms=expires_ms)

    async def _own(self, unit_id: str, token: bytes) -> bytes:
        """The unit's id, which its token proves where tokens are asked for (R3)."""
        raw = _checked_unit(unit_id)
        if self._worker.rules.unit_tokens:
            now_ms = self._context.clock.now_ms()
            if not is_valid(await self._token_key(), raw, token, now_ms):
                raise Unauthenticated(
                    "unit_token is missing, expired, damaged, or another unit's; fetch a new one for this unit with "
                    "ConsentService.IssueUnitToken and ask again"
                )
        return raw

    async def _token_key(self) -> bytes:
        if self._key is None:
            self._key = await asyncio.to_thread(self._context.keys.get_or_create, KEY_NAME)
        return self._key

    def _checked(self, decisions: Iterable[pb.Decision]) -> list[Decision]:
        purposes = {p.name: p for p in self._context.plan.purposes}
        checked = [Decision(_NOBODY, d.purpose, d.given, 0, d.text_hash, d.locale, d.source) for d in decisions]
        if not 1 <= len(checked) <= limits.DECISIONS_PER_REQUEST_MAX:
            raise ConsentRefused(f"{len(checked)} decisions; send 1 to {limits.DECISIONS_PER_REQUEST_MAX}, one a purpose")
        if len({d.purpose for d in checked}) < len(checked):
            raise ConsentRefused("two decisions about one purpose; send one a purpose")
        for d in checked:
            if d.purpose not in purposes:
                raise ConsentRefused(
                    f"purpose {d.purpose[:64]!r} is not in the plan; its purposes are {', '.join(purposes)}"
                )
            lengths = (
                ("text_hash", len(d.text_hash), limits.TEXT_HASH_MAX_BYTES),
                ("locale", len(d.locale), limits.LOCALE_MAX_LENGTH),
                ("source", len(d.source), limits.SOURCE_MAX_LENGTH),
            )
            for name, length, most in lengths:
                if length > most:
                    raise ConsentRefused(f"{name} is {length} long; at most {most} is taken")
            if d.given:
                _ensure_text(d, purposes[d.purpose])
        return checked


def _checked_unit(unit_id: str) -> bytes:
    raw = unit_id.encode()
    if not 1 <= len(raw) <= limits.UNIT_ID_MAX_BYTES:
        raise ConsentRefused(f"unit_id is {len(raw)} bytes long; it must be 1 to {limits.UNIT_ID_MAX_BYTES} bytes of UTF-8")
    return raw


def _ensure_text(decision: Decision, purpose: Purpose) -> None:
    """Consent is given to one text, so a grant names it (P8)."""
    if not decision.text_hash:
        raise ConsentRefused(
            f"consent to {purpose.name} without text_hash; send the SHA-256 of the text that was shown, as GetPlan tells it"
        )
    if decision.text_hash != purpose.text_hash:
        raise ConsentRefused(
            f"consent to another text of {purpose.name} than is in force; read that with GetPlan, show it and ask again"
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
