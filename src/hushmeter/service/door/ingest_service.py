"""IngestService: the plan goes out, reports come in, and each message is acknowledged once it is durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

import grpc

from hushmeter import limits
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.ingest.raw import SentReports
from hushmeter.service.deployment.context import Context
from hushmeter.service.door.decoding import decode_reports
from hushmeter.service.door.methods import both_streamed, unary
from hushmeter.service.door.passage import passage
from hushmeter.service.door.plan_messages import describe_plan
from hushmeter.service.intake.intake import Intake
from hushmeter.service.intake.queue import Outcome

INGEST_SERVICE = pb.DESCRIPTOR.services_by_name["IngestService"].full_name
_ANSWERS_KEPT = 64
_ERAS_KEPT = 4


class IngestService:
    """Answers the four methods; reports come as bytes, so that a malformed message has an answer of ours.

    Args:
        context: the deployment.
        intake: where reports go.
    """

    def __init__(self, context: Context, intake: Intake) -> None:
        self._context = context
        self._intake = intake
        self._described = lru_cache(_ERAS_KEPT)(describe_plan)
        # All messages of one group commit have one receipt.
        self._plainly = lru_cache(_ANSWERS_KEPT)(self._plain_answers)

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The methods as gRPC wants them."""
        return grpc.method_handlers_generic_handler(
            INGEST_SERVICE,
            {
                "GetPlan": unary(self.get_plan, pb.GetPlanRequest, pb.GetPlanResponse),
                "SubmitReports": unary(self.submit_reports, None, None),
                "StreamReports": both_streamed(self.stream_reports, None),
                "ValidateReports": unary(self.validate_reports, None, pb.ValidateReportsResponse),
            },
        )

    async def get_plan(self, _request: pb.GetPlanRequest) -> pb.GetPlanResponse:
        """The plan in force, with its series numbers."""
        return pb.GetPlanResponse(plan=self._described(self._context.era), server_time_ms=self._context.clock.now_ms())

    async def submit_reports(self, message: bytes) -> bytes:
        """Takes one message in; answers with a SubmitReportsResponse when it is durable."""
        outcome = await self._intake.submit(self._decoded(message))
        if outcome.plain:
            return self._plainly(outcome.accepted, outcome.received_at_ms, self._version())[0]
        return pb.SubmitReportsResponse(acknowledgement=self._acknowledge(outcome)).SerializeToString()

    async def validate_reports(self, message: bytes) -> pb.ValidateReportsResponse:
        """Answers as `submit_reports` would, and stores nothing."""
        outcome = await self._intake.validate(self._decoded(message))
        return pb.ValidateReportsResponse(acknowledgement=self._acknowledge(outcome))

    async def stream_reports(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Takes messages in while earlier ones wait for the disk; reads no further when too many wait.

        Answers each with a StreamReportsResponse, in their order.
        """
        waiting: deque[asyncio.Future[Outcome]] = deque()
        moved = asyncio.Event()
        caller = passage()

        async def read() -> None:
            try:
                async for message in messages:
                    caller.another_message()
                    waiting.append(self._intake.submit(self._decoded(message)))
                    moved.set()
                    while len(waiting) >= limits.STREAM_MESSAGES_IN_FLIGHT_MAX:
                        moved.clear()
                        await moved.wait()
            finally:
                moved.set()

        reader = asyncio.create_task(read())
        sequence = 0
        try:
            while waiting or not reader.done():
                if not waiting:
                    moved.clear()
                    await moved.wait()
                    continue
                outcome = await waiting[0]
                del waiting[0]
                moved.set()
                if outcome.plain:
                    # Fields of one message may be encoded one after another, in any order.
                    acknowledged = self._plainly(outcome.accepted, outcome.received_at_ms, self._version())[1]
                else:
                    acknowledged = _streamed(self._acknowledge(outcome))
                yield acknowledged + pb.StreamReportsResponse(sequence=sequence).SerializeToString()
                sequence += 1
            await reader
        finally:
            reader.cancel()
            for left in waiting:
                left.cancel()

    def _decoded(self, message: bytes) -> SentReports:
        return decode_reports(message, unit_tokens=self._intake.rules.unit_tokens)

    def _version(self) -> int:
        return self._context.era.version.version

    def _plain_answers(self, accepted: int, received_at_ms: int, _version: int) -> tuple[bytes, bytes]:
        """What a unary call and a stream answer where every report was accepted for every window."""
        acknowledgement = self._acknowledge(Outcome(accepted, (), {}, received_at_ms))
        return pb.SubmitReportsResponse(acknowledgement=acknowledgement).SerializeToString(), _streamed(acknowledgement)

    def _acknowledge(self, outcome: Outcome) -> pb.Acknowledgement:
        rejections = [
            pb.Rejection(
                index=r.index,
                reason=f"REJECTION_REASON_{r.reason.name}",
                message=r.message,
                retry_after_ms=r.retry_after_ms,
            )
            for r in outcome.rejections
        ]
        return pb.Acknowledgement(
            accepted=outcome.accepted,
            rejections=rejections,
            missed=[pb.MissedResolution(resolution=name, indices=indices) for name, indices in outcome.missed.items()],
            server_time_ms=outcome.received_at_ms,
            latest_plan_version=self._version(),
        )


def _streamed(acknowledgement: pb.Acknowledgement) -> bytes:
    return pb.StreamReportsResponse(acknowledgement=acknowledgement).SerializeToString()
