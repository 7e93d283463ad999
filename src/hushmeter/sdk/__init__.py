"""Edge: the light client that applications embed (grpcio, protobuf and the standard library alone)."""

from hushmeter.channels import ClientIdentity
from hushmeter.sdk.client import IngestClient
from hushmeter.sdk.recorder import Recorder

__all__ = ["ClientIdentity", "IngestClient", "Recorder"]
