"""A refusal tells nothing of what others sent (R4): it is byte for byte the same with and without a stranger's message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from hushmeter import limits
from hushmeter.access.rates import UnitRates
from hushmeter.access.roles import Role
from hushmeter.api.consent.v1 import consent_pb2 as pb
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.errors import Overloaded, RateLimited
from hushmeter.ingest.identity import subject_of
from hushmeter.model.consent import Decision
from hushmeter.model.time import MINUTE_MS
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.intake.queue import Outcome
from hushmeter.testing.clock import FakeClock
from tests.service.calls import ERASE_UNIT, GET_UNIT, SET_CONSENT, STREAM, SUBMIT, VALIDATE
from tests.service.deployment_by_hand import H, opened, reports
from tests.service.guarded_service import Guarded, guarded, standing
from tests.service.intake_worker import YES, working
from tests.service.running_service import FOUNDED_MS

Refused = tuple[object, ...]


def refusal(service: Guarded, method: str, bearer: str, message: bytes) -> Refused:
    """Everything that a client reads of a refusal: code, text, trailers with their details, initial metadata."""
    call = service.begin(method, bearer, iter([message]))
    with pytest.raises(grpc.RpcError):
        list(call)
    trailers = sorted((key, value) for key, value in call.trailing_metadata() if key != "date")
    return call.code(), call.details(), trailers, sorted(call.initial_metadata())


def of(request: object) -> bytes:
    return request.SerializeToString()  # type: ignore[attr-defined,no-any-return]


@contextlib.contextmanager
def tables(monkeypatch: pytest.MonkeyPatch, tracked: int) -> Iterator[None]:
    """Tables of limits that hold so many units."""
    honest = UnitRates.__init__
    with monkeypatch.context() as patched:
        patched.setattr(UnitRates, "__init__", lambda self, per_minute: honest(self, per_minute, tracked))
        yield


class TestACredential:
    """Many units come through one credential."""

    @pytest.mark.parametrize("burst", [1, 2, 3])
    def test_its_refusal_is_constant(self, tmp_path: Path, burst: int) -> None:
        """Whoever finds the credential's allowance used up reads the same, whenever and by whatever others used it up."""
        rules, seen = AccessRules(credentials_required=True, messages_per_s=0.5, message_burst=burst), set[str]()
        for strangers in (0, 1, 5):
            with guarded(tmp_path / f"{strangers}", rules, elapsed_s=standing) as service:
                bearer = service.credential()
                request = of(ingest_pb2.SubmitReportsRequest(reports=[service.report("u")]))
                with contextlib.suppress(grpc.RpcError):
                    for _ in range(burst + strangers):
                        service.call(SUBMIT, bearer, of(ingest_pb2.SubmitReportsRequest(reports=[service.report("v")])))
                for method in (SUBMIT, STREAM, VALIDATE):
                    seen.add(repr(refusal(service, method, bearer, request)))
        assert len(seen) == 1

    def test_no_report_keeps_a_withdrawal_waiting(self, tmp_path: Path) -> None:
        """Where reports have used up a credential's allowance, withdrawals and erasures are taken all the same."""
        rules = AccessRules(credentials_required=True, messages_per_s=0.001, message_burst=2)
        with guarded(tmp_path / "state", rules, elapsed_s=standing) as service:
            bearer = service.credential()
            withdrawal = pb.SetConsentRequest(unit_id="u", decisions=[pb.Decision(purpose="model_tuning")])
            for _ in range(2):
                service.call(SUBMIT, bearer, of(ingest_pb2.SubmitReportsRequest(reports=[service.report("u")])))
            with pytest.raises(grpc.RpcError):
                service.call(SUBMIT, bearer, b"")
            service.call(SET_CONSENT, bearer, of(withdrawal))
            service.call(ERASE_UNIT, bearer, of(pb.EraseUnitRequest(unit_id="u")))


class TestEveryLimit:
    """One text, one delay, whichever limit it is and however full."""

    def test_all_are_told_alike(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The queue by reports, points or tokens, what waits to be judged, reading slots, full tables: one answer."""
        seen = set[str]()
        rules = AccessRules(credentials_required=True, unit_reports_per_minute=100)
        for strangers in (0, 1):
            with (
                tables(monkeypatch, 1 + strangers),
                guarded(tmp_path / f"{strangers}", rules, elapsed_s=standing) as service,
            ):
                bearer, consents = service.credential(), service.credential(Role.CONSENT)
                names = ("a", "b")[: 1 + strangers]
                tokens = {name: service.token(consents, name) for name in (*names, "u")}
                for name in names:
                    service.decide(bearer, name)
                agree_beyond_the_table(service, "u")
                service.clock.advance_to(FOUNDED_MS + 10 * MINUTE_MS)
                for name in names:
                    assert service.submit(bearer, service.report(name)).accepted == 1
                    service.call(GET_UNIT, consents, of(pb.GetUnitRequest(unit_id=name, unit_token=tokens[name])))
                message = of(ingest_pb2.SubmitReportsRequest(reports=[service.report("u")]))
                seen.add(repr(refusal(service, SET_CONSENT, bearer, of(service_grant(service)))))
                seen.add(repr(refusal(service, SUBMIT, bearer, message)))
                seen.add(repr(refusal(service, STREAM, bearer, message)))
                asked = of(pb.GetUnitRequest(unit_id="u", unit_token=tokens["u"]))
                seen.add(repr(refusal(service, GET_UNIT, consents, asked)))
                for name in ("READING_AT_ONCE_MAX", "QUEUED_REPORTS_MAX", "QUEUED_POINTS_MAX"):
                    with monkeypatch.context() as patched:
                        patched.setattr(limits, name, 0)
                        method, sent = (GET_UNIT, asked) if name.startswith("READING") else (SUBMIT, message)
                        seen.add(repr(refusal(service, method, bearer, sent)))
                with monkeypatch.context() as patched:
                    patched.setattr(limits, "QUEUED_REPORTS_MAX", 0)
                    seen.add(repr(refusal(service, VALIDATE, bearer, message)))
                assert service.submit(bearer, service.report("a")).accepted == 1
        assert len(seen) == 1


def service_grant(service: Guarded, unit: str = "u") -> pb.SetConsentRequest:
    return pb.SetConsentRequest(unit_id=unit, decisions=[service.grant()])


def agree_beyond_the_table(service: Guarded, unit: str) -> None:
    """Lets a unit agree that the table of decisions has no room for, as another worker would have recorded it."""
    purpose = service.context.plan.purposes[0]
    subject = subject_of(service.context.keys.get("deployment"), unit.encode())
    agreed = Decision(subject, purpose.name, given=True, received_at_ms=FOUNDED_MS, text_hash=purpose.text_hash)
    service.context.store.record_decisions([agreed], service.clock.now_ms)


class TestAFullTable:
    """A table of units, filled to its edge."""

    def test_withdrawals_and_erasures_are_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A unit that finds the tables full withdraws and is erased; what it allows is refused, and not recorded."""
        with tables(monkeypatch, 1):
            context = opened(tmp_path / "state", FakeClock(H))

            async def run() -> None:
                async with working(context) as worker:
                    await worker.decide(b"a", YES)
                    await worker.erase(b"a")
                    no = [Decision(bytes(16), "tuning", given=False, received_at_ms=0)]
                    with pytest.raises(Overloaded):
                        await worker.decide(b"u", YES)
                    assert not (await worker.consent_of(b"u"))["tuning"].given
                    before = len(context.store.decisions_after(0)[1])
                    await worker.decide(b"u", no)
                    assert len(context.store.decisions_after(0)[1]) == before + 1
                    for _ in range(limits.ERASING_PER_UNIT_AND_MINUTE + 1):
                        await worker.erase(b"u")
                    assert len(context.store.erasures()) == limits.ERASING_PER_UNIT_AND_MINUTE + 2
                    for _ in range(limits.ERASING_PER_UNIT_AND_MINUTE - 1):
                        await worker.erase(b"a")
                    with pytest.raises(RateLimited):
                        await worker.erase(b"a")

            asyncio.run(run())

    @pytest.mark.parametrize("stranger", [False, True], ids=["without", "with"])
    def test_nobody_is_forgotten_for_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: bool) -> None:
        """A unit at its limit stays there whatever others come; and is let in when its minute has passed."""
        with tables(monkeypatch, 2):
            clock = FakeClock(H)
            context = opened(tmp_path / "state", clock)

            async def run() -> list[object]:
                async with working(context, AccessRules(unit_reports_per_minute=1)) as worker:
                    for unit in (b"a", b"b", b"c"):
                        await worker.decide(unit, YES) if unit != b"c" else agree(unit)
                    told = list[object]()

                    async def send(*units: str) -> object:
                        try:
                            outcome = await worker.submit(reports(context, units, clock.now_ms() + 60_000))
                        except Overloaded as error:
                            return str(error)
                        assert isinstance(outcome, Outcome)
                        return outcome.accepted, [r.reason.name for r in outcome.rejections]

                    told.append(await send("a"))
                    await send("b")
                    if stranger:
                        assert await send("c") == str(Overloaded())
                    told.append(await send("a"))
                    told.append(await asyncio.gather(send("a"), send("a")))
                    clock.advance(0, monotonic_s=29.0)
                    told.append(await send("a"))
                    clock.advance(0, monotonic_s=31.0)
                    told.append(await send("a"))
                    return told

            def agree(unit: bytes) -> None:
                subject = subject_of(context.keys.get("deployment"), unit)
                context.store.record_decisions([Decision(subject, "tuning", True, H, YES[0].text_hash)], clock.now_ms)

            told = asyncio.run(run())
        limited = (0, ["RATE_LIMITED"])
        assert told == [(1, []), limited, [limited, limited], limited, (1, [])]
