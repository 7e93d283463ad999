"""The gRPC server of one process: services, health, reflection, limits, drain."""

from __future__ import annotations

import contextlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hushmeter import limits
from hushmeter.errors import ConfigError
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.door.consent_service import CONSENT_SERVICE, ConsentService
from hushmeter.service.door.gate import Gate
from hushmeter.service.door.ingest_service import INGEST_SERVICE, IngestService
from hushmeter.service.door.query_service import QUERY_SERVICE, QueryService
from hushmeter.service.door.tls import Tls
from hushmeter.service.door.transparency_service import TRANSPARENCY_SERVICE, TransparencyService
from hushmeter.service.intake.intake import Intake

DRAIN_S = 10.0
_CONNECTION_AGE_MS = 30 * 60_000
_KEEPALIVE_MS = 60_000
_SERVICES = (INGEST_SERVICE, CONSENT_SERVICE, QUERY_SERVICE, TRANSPARENCY_SERVICE)
_OPTIONS = (
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", limits.MESSAGE_MAX_BYTES),
    ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", int(DRAIN_S * 1000)),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
)


class Server:
    """One process's gRPC server.

    Args:
        context: the deployment.
        meters: operators' metrics.
        intake: takes reports and decisions.
        listen: `host:port`; port 0 takes a free one.
        gate: which every call passes.
        tls: what the service proves itself with; None for plain text.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self, context: Context, meters: Meters, intake: Intake, listen: str, gate: Gate, tls: Tls | None = None
    ) -> None:
        self._gate = gate
        streams = ("grpc.max_concurrent_streams", limits.STREAMS_PER_CONNECTION_MAX)
        self._server = grpc.aio.server(options=(*_OPTIONS, streams), interceptors=[gate])
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        services = (
            IngestService(context, intake),
            ConsentService(context, intake),
            QueryService(context, meters),
            TransparencyService(context, meters),
        )
        self._server.add_generic_rpc_handlers([service.handler() for service in services])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            self.port = (
                self._server.add_insecure_port(listen)
                if tls is None
                else self._server.add_secure_port(listen, _server_credentials(tls))
            )
        except RuntimeError:
            raise ConfigError(f"cannot listen on {listen}: is another server there? Choose another address") from None

    async def start(self) -> None:
        """Begins to serve."""
        await self._gate.start()
        await self._server.start()
        for name in ("", *_SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Says so to health checks, takes no new calls and lets calls in hand end."""
        with contextlib.suppress(Exception):
            await self._health.enter_graceful_shutdown()
        await self._server.stop(DRAIN_S)
        await self._gate.stop()


def _server_credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_ca or None,
        require_client_auth=bool(tls.client_ca),
    )
