"""Connects to Postgres, and explains why it could not.

Only this module loads asyncpg.  It is imported once a URL of Postgres is used: never on SQLite.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg  # type: ignore[import-untyped]  # has no stubs

from storage.database.postgres_url import PostgresTarget
from storage.errors import (
    DatabaseUnavailableError,
    InvalidDatabaseUrlError,
    PermanentDatabaseError,
    one_line,
)

_CONNECT_SECONDS = 5
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
_TLS_FIXES = {
    10: "have it renewed",
    62: "write the host as the certificate does, or use sslmode=verify-ca",
    64: "write the host as the certificate does, or use sslmode=verify-ca",
}
"""How to fix an invalid certificate, by OpenSSL's number of the error."""
_DEFAULT_TLS_FIX = "name the file of its CA with sslrootcert=/path/ca.pem, or the system's CAs with =system"


DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that asyncpg raises itself."""
Connect = Callable[[], Awaitable[Any]]


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
