"""Parses Postgres URLs, including those written for poolers, Prisma and libpq, and connects to them."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg  # type: ignore[import-untyped]  # has no stubs
from sqlalchemy.engine import URL

from storage.errors import (
    DatabaseUnavailableError,
    InvalidDatabaseUrlError,
    PermanentDatabaseError,
    one_line,
)

_CONNECT_SECONDS = 5
_POOLER_PORT = 6543
"""The port of Supabase's transaction poolers; no other host uses it for anything else."""
_INVALID_PARAMETER_STATES = ("22", "42704")
"""SQLSTATEs, or their classes, with which a server refuses a parameter or its value."""
_LOGIN_FIXES = {
    "28": "correct user and password in the URL, or let them in by pg_hba.conf",
    "3D000": "create it, or name another in the URL",
    "42501": "grant that to the user of the URL",
}
"""How to fix a refused login, by SQLSTATE or its class."""
_POOLER_REFUSALS = ("no such database", "no such user")
"""Messages of PgBouncer for which a server has SQLSTATEs of their own."""
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
_TLS_FIXES = {
    10: "have it renewed",
    62: "write the host as the certificate does, or use sslmode=verify-ca",
    64: "write the host as the certificate does, or use sslmode=verify-ca",
}
"""How to fix an invalid certificate, by OpenSSL's number of the error."""
_DEFAULT_TLS_FIX = "name the file of its CA with sslrootcert=/path/ca.pem, or the system's CAs with =system"

Connect = Callable[[], Awaitable[Any]]


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


def make_connector(target: PostgresTarget, statement_seconds: float | None) -> Connect:
    """Return a function that opens a connection, whose statements time out after ``statement_seconds``.

    asyncpg reads the URL itself, so that ``sslmode`` and others have their usual meaning.  The function
    raises DatabaseUnavailableError if it can explain more than asyncpg's error, else that error.
    """
    dsn = target.url.render_as_string(hide_password=False)

    async def connect() -> Any:
        options: dict[str, Any] = {} if target.prepares_statements else {"statement_cache_size": 0}
        try:
            if target.trust_system_cas:
                options["ssl"] = _system_cas(target.client_certificate)
            return await asyncpg.connect(
                dsn, timeout=_CONNECT_SECONDS, command_timeout=statement_seconds, **options
            )
        except TimeoutError:
            raise TimeoutError(f"no connection within {_CONNECT_SECONDS} s") from None
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            explanation = _explain(error)
            if explanation is None:
                raise
            problem = f"{target.safe_url}{explanation.problem}"
            raise _error_class(error)(problem, fix=explanation.fix, cause=explanation.cause) from error

    return connect


def _check_ports(url: URL, query: Mapping[str, str]) -> None:
    ports = [] if url.port is None else [str(url.port)]
    for port in (*ports, *filter(None, query.get("port", "").split(","))):
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"port {port}: use one from 1 to 65535, of Postgres mostly 5432")


def _error_class(error: Exception) -> type[DatabaseUnavailableError]:
    """Return the class of our error, a permanent one if waiting does not help.

    An unknown host name may pass: containers get theirs when they start.
    """
    if _is_invalid_parameter(error):
        return InvalidDatabaseUrlError
    if isinstance(error, asyncpg.PostgresError):
        message = one_line(error)
        lasts = str(error.sqlstate).startswith(tuple(_LOGIN_FIXES)) or message.startswith(_POOLER_REFUSALS)
    else:
        lasts = isinstance(error, ssl.SSLCertVerificationError) or "rejected SSL upgrade" in str(error)
    return PermanentDatabaseError if lasts else DatabaseUnavailableError


def _is_invalid_parameter(error: Exception) -> bool:
    """Return whether the URL is wrong, whatever state the server is in."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_INVALID_PARAMETER_STATES)
    return isinstance(error, asyncpg.ClientConfigurationError)


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


def _system_cas(certificate: tuple[str, str | None] | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


class _Explanation(NamedTuple):
    """The problem, which follows the URL, its fix, and the cause of a `DatabaseUnavailableError`."""

    problem: str
    fix: str = ""
    cause: str = ""


def _explain(error: Exception) -> _Explanation | None:
    """Return None if the error's own text is enough."""
    message = one_line(error.args[0] if error.args else error)
    if isinstance(error, ssl.SSLCertVerificationError):
        fix = _TLS_FIXES.get(error.verify_code, _DEFAULT_TLS_FIX)
        return _Explanation(f": its TLS certificate is refused: {error.verify_message.rstrip('.')}", fix)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or error.strerror
        return _Explanation(f": TLS fails: {reason}", "check the files and modes of the ssl parameters")
    if isinstance(error, asyncpg.PostgresError):
        return _explain_refusal(error, message)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return _Explanation(f": {message}", _DEFAULT_TLS_FIX if "root certificate" in message else "")
    if "rejected SSL upgrade" in message:
        return _Explanation(
            ": it speaks no TLS, and sslmode asks for it", "switch TLS on there, or use sslmode=disable"
        )
    return None


def _explain_refusal(error: asyncpg.PostgresError, message: str) -> _Explanation:
    """Like `_explain`, for a server that refuses the connection."""
    if isinstance(error, asyncpg.TooManyConnectionsError):
        fix = "run fewer processes, or with a smaller pool each, or give the server more"
        return _Explanation(f": all of its connections are taken ({message})", fix)
    if _is_invalid_parameter(error):
        return _Explanation(f" is refused: {message}", "correct that parameter of the URL, or drop it")
    for state, fix in _LOGIN_FIXES.items():
        if str(error.sqlstate).startswith(state):
            return _Explanation(f" refuses: {message}", fix)
    return _Explanation(f" does not answer: {message}", cause=message)
