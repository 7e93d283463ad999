"""Edge: the light client that applications embed (grpcio, protobuf and the standard library alone).

tests/service/test_examples.py runs the examples in the docstrings, against a service of the plan that `hushmeter plan init`
writes and one ratio. `client` is an `IngestClient` of that service.
"""

from hushmeter.channels import ClientIdentity
from hushmeter.sdk.client import IngestClient
from hushmeter.sdk.recorder import Recorder

__all__ = ["ClientIdentity", "IngestClient", "Recorder"]
