"""TransparencyService: the public record, for anybody who asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from hushmeter import limits
from hushmeter.api.transparency.v1 import transparency_pb2 as pb
from hushmeter.errors import ReleaseAltered
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.disclosure.public_record import signed_record, written
from hushmeter.service.door.methods import streamed
from hushmeter.transparency.words import RecordFormat

TRANSPARENCY_SERVICE = pb.DESCRIPTOR.services_by_name["TransparencyService"].full_name
_FORMATS = {pb.RECORD_FORMAT_MARKDOWN: RecordFormat.MARKDOWN, pb.RECORD_FORMAT_HTML: RecordFormat.HTML}


class TransparencyService:
    """Answers from a copy that is made anew when ledger or plan have changed, so that asking costs little.

    Args:
        context: the deployment.
        meters: operators' metrics.
    """

    def __init__(self, context: Context, meters: Meters) -> None:
        self._context = context
        self._meters = meters
        self._made: tuple[object, dict[RecordFormat, bytes]] | None = None
        self._making = asyncio.Lock()

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The methods as gRPC wants them."""
        method = streamed(self.get_record, pb.GetRecordRequest, pb.GetRecordResponse)
        return grpc.method_handlers_generic_handler(TRANSPARENCY_SERVICE, {"GetRecord": method})

    async def get_record(self, request: pb.GetRecordRequest) -> AsyncIterator[pb.GetRecordResponse]:
        """The record, part by part."""
        async with self._making:
            # One thread at a time, however many ask.
            try:
                texts = await asyncio.to_thread(self._texts)
            except ReleaseAltered:
                self._meters.failures.labels("release").inc()
                raise
        text = texts[_FORMATS.get(request.format, RecordFormat.JSON)]
        for at in range(0, len(text), limits.RECORD_PART_BYTES):
            yield pb.GetRecordResponse(part=text[at : at + limits.RECORD_PART_BYTES])

    def _texts(self) -> dict[RecordFormat, bytes]:
        context = self._context
        state = context.store.ledger_head(context.deployment.deployment_id), context.timeline.recorded()
        if self._made is None or self._made[0] != state:
            signed = signed_record(context)
            self._made = state, {as_: written(signed, as_).encode() for as_ in RecordFormat}
        return self._made[1]
