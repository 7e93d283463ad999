"""Privacy-preserving telemetry aggregation: reports come in over gRPC, only differentially private statistics leave."""

__version__ = "0.2.0.dev0"
