"""Alembic environment: migrations run on the connection that `migrating.migrate` opened."""

from alembic import context

from libs.common.records.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
