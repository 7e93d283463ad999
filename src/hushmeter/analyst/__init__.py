"""Edge: the client that ML teams use.

tests/service/test_examples.py runs the examples in the docstrings, against a service of the plan that `hushmeter plan init`
writes, once its first hour was released. `analyst` is an `AnalystClient` of that service.
"""

from hushmeter.analyst.client import AnalystClient, table_of
from hushmeter.analyst.verifying import VerifiedReleases
from hushmeter.channels import ClientIdentity

__all__ = ["AnalystClient", "ClientIdentity", "VerifiedReleases", "table_of"]
