"""Alembic migrations, run by the program itself at start."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage.errors import MigrationError

HEAD = "0007"
"""The newest revision in ``versions/``."""


def name_clash_hint(dialect: str) -> str:
    """Return how to fix that tables of another program have the names of ours."""
    if dialect == "sqlite":
        return "name another file in DATABASE_URL"
    return (
        "CREATE SCHEMA couturecast, and append ?schema=couturecast to DATABASE_URL "
        "or ALTER ROLE … SET search_path = couturecast"
    )


def is_current(connection: Connection) -> bool:
    """Return whether the tables are up to date.  Changes nothing."""
    return _revision(connection) == HEAD


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date on ``connection``, in its transaction; the caller holds the lock.

    Raises MigrationError, and SQLAlchemyError of the statements.
    """
    if is_current(connection):
        return
    # Mako, of Alembic, would load lexers of Pygments: 3.4 MB to colour error pages that nobody sees.
    sys.modules.setdefault("mako.ext.pygmentplugin", None)  # type: ignore[arg-type]
    from alembic import command  # takes a quarter of a second, and is seldom needed
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(
            f"{error}: a newer version wrote that, which is to run then, or another program: "
            f"{name_clash_hint(connection.dialect.name)}"
        ) from error


def _revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None if there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision
