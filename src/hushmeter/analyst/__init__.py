"""Edge: the client that ML teams use."""

from hushmeter.analyst.client import AnalystClient, table_of
from hushmeter.channels import Access

__all__ = ["Access", "AnalystClient", "table_of"]
