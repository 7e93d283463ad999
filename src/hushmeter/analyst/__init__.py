"""Edge: the client that ML teams use."""

from hushmeter.analyst.client import AnalystClient, table_of
from hushmeter.analyst.verifying import VerifiedReleases
from hushmeter.channels import Access

__all__ = ["Access", "AnalystClient", "VerifiedReleases", "table_of"]
