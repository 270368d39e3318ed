"""Alembic's entry: runs on the connection that it is handed."""

from __future__ import annotations

from alembic import context

from storage.database.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
