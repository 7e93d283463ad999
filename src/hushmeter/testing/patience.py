"""How long tests wait for what comes, however busy the machine is."""

from typing import Final

PATIENCE_S: Final = 900.0
"""Only a test that fails waits to the end."""
