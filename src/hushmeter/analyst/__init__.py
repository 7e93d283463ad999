"""Edge: the client that ML teams use."""

from hushmeter.analyst.client import AnalystClient, table_of

__all__ = ["AnalystClient", "table_of"]
