"""A Postgres URL as it is found in the world: poolers, TLS, and the parameters of other programs."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # has no stubs
from sqlalchemy.engine import URL

from storage.errors import DatabaseUnavailableError, InvalidDatabaseUrlError, PermanentDatabaseError

_CONNECT_SECONDS = 5
_POOLER_PORT = 6543
"""Where Supabase's transaction poolers listen, and on no other host anything else."""
_UNUSABLE = ("22", "42704")
"""SQLSTATEs, or their class, with which a server refuses a parameter or its value."""
_REFUSED_MENDS = {
    "28": "correct user and password in the URL, or let them in by pg_hba.conf",
    "3D000": "create it, or name another in the URL",
    "42501": "grant that to the user of the URL",
}
"""What to do, by SQLSTATE or its class, where a server lets us not in, and will not."""
_POOLER_REFUSES = ("no such database", "no such user")
"""What PgBouncer says where a server would say it with a SQLSTATE of its own."""
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_NOT_FOR_THE_SERVER = frozenset(
    (
        *("connection_limit", "pool_timeout", "connect_timeout", "socket_timeout"),  # ours are set elsewhere
        *("pgbouncer", "statement_cache_size", "prepared_statement_cache_size", "schema", "sslaccept"),
        *("max_connection_lifetime", "max_idle_connection_lifetime", "single_use_connections"),
        *("channel_binding", "gssencmode", "requiressl", "sslsni", "sslcertmode", "sslcompression"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("supa", "workaround", "uselibpqcompat", "fallback_application_name"),
    )
)
"""Parameters of Prisma, libpq and hosts, which asyncpg would take for settings of the server."""
_TLS_MENDS = {
    10: "have it renewed",
    62: "write the host as the certificate does, or use sslmode=verify-ca",
    64: "write the host as the certificate does, or use sslmode=verify-ca",
}
"""What to do, by OpenSSL's number of what is wrong with a certificate."""
_OTHER_TLS_MEND = "name the file of its CA with sslrootcert=/path/ca.pem, or the system's CAs with =system"

Connect = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """What a URL means."""

    url: URL
    """With the password, and with nothing that asyncpg would not understand."""
    safe_url: str
    pooled: bool
    """Each transaction may be another connection of the server's: no session lasts longer than one."""
    prepares: bool
    """Statements may have names on the server's connection."""
    may_be_pooled: bool
    """The URL does not say whether a pooler is there: that shows once it answers."""
    said_no: bool
    """The URL says that there is no transaction pooler."""
    system_trust: bool
    """Who signed the server's certificate is for the system's CAs to say."""
    client_certificate: tuple[str, str | None] | None


def parse_postgres_url(url: URL) -> PostgresTarget:
    """What a ``postgresql://`` URL means.  Raises ValueError, in one line, where that cannot be done."""
    secret = [name for name in url.query if "password" in name.lower()]
    safe_url = url.difference_update_query(secret).render_as_string(hide_password=True)
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    pooled = _is_pooled(url, query)
    _check_ports(url, query)
    _read_tls(query)
    _read_schema(query, pooled)
    kept = {name: value for name, value in query.items() if name not in _NOT_FOR_THE_SERVER}
    certificate = (query["sslcert"], query.get("sslkey")) if "sslcert" in query else None
    return PostgresTarget(
        url.set(query=kept),
        safe_url,
        pooled,
        not pooled,
        "pgbouncer" not in query and not pooled,
        "pgbouncer" in query and not pooled,
        query.get("sslrootcert") == "system",
        certificate,
    )


def connector(target: PostgresTarget, statement_seconds: float | None) -> Connect:
    """What opens a connection.  asyncpg reads the URL itself, so that ``sslmode`` and its kin mean what they
    mean elsewhere; behind a transaction pooler it names no statement.

    It raises DatabaseUnavailableError where there is something to say, else whatever asyncpg raises.
    """

    dsn = target.url.render_as_string(hide_password=False)

    async def connect() -> Any:
        options: dict[str, Any] = {} if target.prepares else {"statement_cache_size": 0}
        try:
            if target.system_trust:
                options["ssl"] = _system_trust(target.client_certificate)
            return await asyncpg.connect(
                dsn, timeout=_CONNECT_SECONDS, command_timeout=statement_seconds, **options
            )
        except TimeoutError:
            raise TimeoutError(f"no connection within {_CONNECT_SECONDS} s") from None
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            line = _explained(error)
            if line is None:
                raise
            raise _kind(error)(f"{target.safe_url}{line}") from error

    return connect


def _check_ports(url: URL, query: Mapping[str, str]) -> None:
    given = [] if url.port is None else [str(url.port)]
    for port in (*given, *filter(None, query.get("port", "").split(","))):
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"port {port}: use one from 1 to 65535, of Postgres mostly 5432")


def _kind(error: Exception) -> type[DatabaseUnavailableError]:
    """Whether it passes.  A host without a name does: containers get theirs when they start."""
    if _is_unusable(error):
        return InvalidDatabaseUrlError
    if isinstance(error, asyncpg.PostgresError):
        words = " ".join(str(error).split())
        lasts = str(error.sqlstate).startswith(tuple(_REFUSED_MENDS)) or words.startswith(_POOLER_REFUSES)
    else:
        lasts = isinstance(error, ssl.SSLCertVerificationError) or "rejected SSL upgrade" in str(error)
    return PermanentDatabaseError if lasts else DatabaseUnavailableError


def _is_unusable(error: Exception) -> bool:
    """Whether it is the URL that is wrong, whatever the server's state."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_UNUSABLE)
    return isinstance(error, asyncpg.ClientConfigurationError)


def _is_pooled(url: URL, query: Mapping[str, str]) -> bool:
    """Prisma's parameter decides; without it, what says so between the lines."""
    said = query.get("pgbouncer")
    if said is not None:
        return said.lower() not in ("false", "0", "no")
    if "0" in (query.get("statement_cache_size"), query.get("prepared_statement_cache_size")):
        return True
    return str(url.port or query.get("port", "")) == str(_POOLER_PORT)


def _read_schema(query: dict[str, str], pooled: bool) -> None:
    """Prisma's ``schema``: where the tables are, and are made."""
    schema = query.get("schema", "public")
    if schema == "public":
        return
    quoted = schema.replace('"', '""')
    if pooled:
        raise ValueError(
            f"schema={schema} is not carried by a transaction pooler: leave it out, and run once "
            f'ALTER ROLE … SET search_path = "{quoted}"'
        )
    query["search_path"] = f'"{quoted}"'


def _read_tls(query: dict[str, str]) -> None:
    """Make Prisma's parameters libpq's, and check them."""
    if "sslidentity" in query:
        raise ValueError("sslidentity: no PKCS 12 file can be used: give sslcert and sslkey in PEM files")
    if "sslcert" in query and "sslkey" not in query:  # Prisma's: the CA of the server
        query.setdefault("sslrootcert", query.pop("sslcert"))
    if query.get("sslaccept") == "strict" and not query.get("sslmode", "").startswith("verify"):
        query["sslmode"] = "verify-full"
        query.setdefault("sslrootcert", "system")
    if query.get("sslrootcert") == "system" and query.setdefault("sslmode", "verify-full") != "verify-full":
        raise ValueError("sslrootcert=system needs sslmode=verify-full beside it")
    mode = query.get("sslmode", "prefer")
    if mode not in _MODES:
        raise ValueError(f"sslmode={mode}: use one of {', '.join(_MODES)}")
    for name in _FILES:
        if name in query and query[name] != "system":
            _check_readable(name, query[name])


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from None


def _system_trust(certificate: tuple[str, str | None] | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def _explained(error: Exception) -> str | None:
    """What is wrong and how to mend it, to follow the URL; None where the error's own words say it."""
    words = " ".join(str(error.args[0] if error.args else error).split())
    if isinstance(error, ssl.SSLCertVerificationError):
        mend = _TLS_MENDS.get(error.verify_code, _OTHER_TLS_MEND)
        return f": its TLS certificate is refused: {error.verify_message.rstrip('.')}: {mend}"
    if isinstance(error, ssl.SSLError):
        return (
            f": TLS fails: {error.reason or error.strerror}: check the files and modes of the ssl parameters"
        )
    if isinstance(error, asyncpg.PostgresError):
        return _refused(error, words)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return f": {words}: {_OTHER_TLS_MEND}" if "root certificate" in words else f": {words}"
    if "rejected SSL upgrade" in words:
        return ": it speaks no TLS, and sslmode asks for it: switch TLS on there, or use sslmode=disable"
    return None


def _refused(error: asyncpg.PostgresError, words: str) -> str:
    """What a server said instead of letting us in."""
    if isinstance(error, asyncpg.TooManyConnectionsError):
        mend = "run fewer processes, or with a smaller pool each, or give the server more"
        return f": all of its connections are taken ({words}): {mend}"
    if _is_unusable(error):
        return f" is refused: {words}: correct that parameter of the URL, or drop it"
    for state, mend in _REFUSED_MENDS.items():
        if str(error.sqlstate).startswith(state):
            return f" refuses: {words}: {mend}"
    return f" does not answer: {words}"
