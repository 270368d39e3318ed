"""Parses Postgres URLs, including those written for poolers, Prisma and libpq."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import URL

_POOLER_PORT = 6543
"""The port of Supabase's transaction poolers; no other host uses it for anything else."""
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_CLIENT_PARAMETERS = frozenset(
    (
        *("connection_limit", "pool_timeout", "connect_timeout", "socket_timeout"),  # settings of ours
        *("pgbouncer", "statement_cache_size", "prepared_statement_cache_size", "schema", "sslaccept"),
        *("max_connection_lifetime", "max_idle_connection_lifetime", "single_use_connections"),
        *("channel_binding", "gssencmode", "requiressl", "sslsni", "sslcertmode", "sslcompression"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("supa", "workaround", "uselibpqcompat", "fallback_application_name"),
    )
)
"""Parameters of Prisma, libpq and hosts, which asyncpg would send to the server as settings."""


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """A parsed URL."""

    url: URL
    """Includes the password, and only parameters that asyncpg understands."""
    safe_url: str
    """The URL without its password."""
    behind_pooler: bool
    """Whether a transaction pooler serves each transaction by any connection, so that no session lasts."""
    prepares_statements: bool
    """Whether statements may have names on the server's connection."""
    may_be_pooled: bool
    """Whether the URL leaves open if there is a pooler, which shows once it answers."""
    pooler_denied: bool
    """Whether the URL rules out a transaction pooler."""
    trust_system_cas: bool
    """Whether the system's CAs decide about the server's certificate."""
    client_certificate: tuple[str, str | None] | None


def parse_postgres_url(url: URL) -> PostgresTarget:
    """Parse a ``postgresql://`` URL.  Raises ValueError, in one line."""
    secret = [name for name in url.query if "password" in name.lower()]
    safe_url = url.difference_update_query(secret).render_as_string(hide_password=True)
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    behind_pooler = _is_behind_pooler(url, query)
    _check_ports(url, query)
    _read_tls(query)
    _read_schema(query, behind_pooler)
    parameters = {name: value for name, value in query.items() if name not in _CLIENT_PARAMETERS}
    return PostgresTarget(
        url=url.set(query=parameters),
        safe_url=safe_url,
        behind_pooler=behind_pooler,
        prepares_statements=not behind_pooler,
        may_be_pooled="pgbouncer" not in query and not behind_pooler,
        pooler_denied="pgbouncer" in query and not behind_pooler,
        trust_system_cas=query.get("sslrootcert") == "system",
        client_certificate=(query["sslcert"], query.get("sslkey")) if "sslcert" in query else None,
    )


def _check_ports(url: URL, query: Mapping[str, str]) -> None:
    ports = [] if url.port is None else [str(url.port)]
    for port in (*ports, *filter(None, query.get("port", "").split(","))):
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"port {port}: use one from 1 to 65535, of Postgres mostly 5432")


def _is_behind_pooler(url: URL, query: Mapping[str, str]) -> bool:
    """Return whether it is, by Prisma's parameter, else by signs that are common in URLs of poolers."""
    pgbouncer = query.get("pgbouncer")
    if pgbouncer is not None:
        return pgbouncer.lower() not in ("false", "0", "no")
    if "0" in (query.get("statement_cache_size"), query.get("prepared_statement_cache_size")):
        return True
    return str(url.port or query.get("port", "")) == str(_POOLER_PORT)


def _read_schema(query: dict[str, str], behind_pooler: bool) -> None:
    """Translate Prisma's ``schema`` into the search path in which the tables are found and created."""
    schema = query.get("schema", "public")
    if schema == "public":
        return
    quoted = schema.replace('"', '""')
    if behind_pooler:
        raise ValueError(
            f"schema={schema} is not carried by a transaction pooler: leave it out, and run once "
            f'ALTER ROLE … SET search_path = "{quoted}"'
        )
    query["search_path"] = f'"{quoted}"'


def _read_tls(query: dict[str, str]) -> None:
    """Translate Prisma's parameters into libpq's, and check them."""
    if "sslidentity" in query:
        raise ValueError("sslidentity: no PKCS 12 file can be used: give sslcert and sslkey in PEM files")
    if "sslcert" in query and "sslkey" not in query:  # in Prisma that is the CA of the server
        query.setdefault("sslrootcert", query.pop("sslcert"))
    if query.get("sslaccept") == "strict" and not query.get("sslmode", "").startswith("verify"):
        query["sslmode"] = "verify-full"
        query.setdefault("sslrootcert", "system")
    if query.get("sslrootcert") == "system" and query.setdefault("sslmode", "verify-full") != "verify-full":
        raise ValueError("sslrootcert=system needs sslmode=verify-full")
    mode = query.get("sslmode", "prefer")
    if mode not in _SSL_MODES:
        raise ValueError(f"sslmode={mode}: use one of {', '.join(_SSL_MODES)}")
    for name in _SSL_FILES:
        if name in query and query[name] != "system":
            _check_readable(name, query[name])


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from None
