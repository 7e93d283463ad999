"""Edge: the client that ML teams use."""

from hushmeter.analyst.client import AnalystClient, table_of
from hushmeter.analyst.verifying import VerifiedReleases
from hushmeter.channels import ClientIdentity

__all__ = ["AnalystClient", "ClientIdentity", "VerifiedReleases", "table_of"]
