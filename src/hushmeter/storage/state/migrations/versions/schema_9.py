"""Windows whose rows are final are FIXED, which was SEALED; alembic keeps the schema's version. Nothing is removed."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "9"
down_revision: Final = "8"


def upgrade() -> None:
    """Takes the step."""
    op.execute("UPDATE windows SET state = 'FIXED' WHERE state = 'SEALED'")
    # A sealer of before that outlived its supervisor fails at its next window: nobody would end what it called SEALED.
    op.execute(
        "CREATE TRIGGER no_state_of_before BEFORE UPDATE ON windows WHEN NEW.state = 'SEALED' "
        "BEGIN SELECT RAISE(ABORT, 'a window is not SEALED any more'); END"
    )
    op.drop_table("meta")
