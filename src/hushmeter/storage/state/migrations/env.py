"""What alembic runs around its steps: they belong to the writing transaction that `migrate` was given."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
