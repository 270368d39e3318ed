"""Access to the dashboard in a browser: the token, the login that it is exchanged for, and the origin."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Collection
from urllib.parse import urlsplit

LOGIN_SECONDS = 12 * 3600
"""After which a browser has to log in again."""


class Logins:
    """Exchanges the token for a value that a cookie holds, and from which the token cannot be computed.

    The key lives in this process only, so a restart ends all logins.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._key = secrets.token_bytes(32)

    def is_token(self, text: str) -> bool:
        """Return whether ``text`` is the token; takes the same time for any."""
        return hmac.compare_digest(text.strip().encode(), self._token)

    def issue(self) -> str:
        """Return the value of a new login."""
        until = str(int(time.time()) + LOGIN_SECONDS)
        return f"{until}.{self._sign(until)}"

    def is_valid(self, value: str) -> bool:
        """Return whether ``value`` is a login of this process that has not expired."""
        until, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(until).encode()):
            return False
        return time.time() < int(until)

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Return whether the Host of a request names this server: an address, localhost, or one of ``names``.

    Any other name may be that of a foreign page whose DNS entry now points here.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name in names or _is_address(name)


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether the Origin of a request is a page of this server; ``host`` is its Host."""
    scheme, _, origin_host = origin.partition("://")
    return scheme in ("http", "https") and origin_host.lower() == host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
