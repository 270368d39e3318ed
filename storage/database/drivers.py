"""SQLAlchemy engines for both databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from storage.database.postgres_url import PostgresTarget, parse_postgres_url
from storage.database.sqlite import begin_transaction, connect, prepare_connection, terminate_connection
from storage.errors import DirectUrlError
from storage.json import loads

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
}
_PASSWORD_HINT = "in a password write %40 for @, %2F for / and %3A for :"  # noqa: S105 - no password


def parse_database_url(url: str) -> URL:
    """Return the URL with the driver for it.  Raises ValueError, in one line."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            f"not a database URL: use postgresql://user@host/name or sqlite:///path; {_PASSWORD_HINT}"
        ) from None
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise ValueError(f"unknown database {parsed.drivername!r}: use postgresql:// or sqlite:///")
    if parsed.get_backend_name() != "sqlite" and url.partition("?")[0].count("@") > 1:
        raise ValueError(f"two @ stand before its parameters: {_PASSWORD_HINT}")
    return parsed.set(drivername=driver)


def parse_target(url: URL) -> PostgresTarget:
    """Parse a Postgres URL.  Raises ValueError, in one line."""
    if url.get_backend_name() != "postgresql":
        raise ValueError("use postgresql://user:password@host/name")
    return parse_postgres_url(url.set(drivername="postgresql"))


def parse_direct_target(url: str) -> PostgresTarget:
    """Parse a URL that must not be a transaction pooler's.  Raises DirectUrlError."""
    try:
        target = parse_target(parse_database_url(url))
    except ValueError as error:
        raise DirectUrlError(str(error)) from None
    if target.behind_pooler:
        raise DirectUrlError(f"{target.safe_url} is a transaction pooler's", fix="give the URL past it")
    return target


def create_postgres_engine(
    current_target: Callable[[], PostgresTarget], statement_seconds: float | None, **options: Any
) -> AsyncEngine:
    """Return an engine that calls ``current_target`` before each connection.

    Behind a transaction pooler every statement is the nameless one, which the next statement replaces.  So
    nothing stays on the server's connection for the pooler's next client.
    """
    from storage.database.postgres_connect import make_connector

    nameless = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}

    def create() -> Any:
        adapter: Any = engine.dialect.dbapi
        target = current_target()
        connect_postgres = make_connector(target, statement_seconds)
        return adapter.connect(
            async_creator_fn=connect_postgres, **({} if target.prepares_statements else nameless)
        )

    url = current_target().url.set(drivername=_DRIVERS["postgresql"])
    engine = create_async_engine(url, creator=create, **options, **_ENGINE_OPTIONS)
    return engine


def create_sqlite_engine(url: URL, busy_seconds: float) -> AsyncEngine:
    """Return an engine whose statements wait ``busy_seconds`` for another writer."""
    engine = create_async_engine(
        url, connect_args={"timeout": busy_seconds, "async_creator_fn": connect}, **_ENGINE_OPTIONS
    )
    engine.dialect.do_terminate = terminate_connection  # type: ignore[assignment]
    event.listen(engine.sync_engine, "connect", prepare_connection)
    event.listen(engine.sync_engine, "begin", partial(begin_transaction, busy_seconds))
    return engine


def _loads_leniently(body: bytes | str) -> Any:
    """Parse JSON; text of other programs that is not JSON must not keep a page from being read."""
    try:
        return loads(body)
    except (ValueError, RecursionError):
        return {"unreadable": body if isinstance(body, str) else body.decode("utf-8", "backslashreplace")}


_ENGINE_OPTIONS: dict[str, Any] = {"pool_pre_ping": True, "json_deserializer": _loads_leniently}
