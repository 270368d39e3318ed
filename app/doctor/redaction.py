"""Keeps secrets out of the report: a driver's error, or that of a handler's module, may quote one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from urllib.parse import unquote

from app.environment import environment
from app.errors import SettingsError

_MIN_SECRET_CHARS = 4
_NOTIFY_URLS = "COUTURECAST_NOTIFY_URLS"
"""Each of its URLs is secret as a whole: a token may be any part of it."""
_SECRET_SUFFIXES = ("_URL", "_KEY", "_TOKEN")
"""Ends of the names of variables whose values are secret, or hold a password."""
_QUERY_PASSWORD = re.compile(r"(?i)([?&](?:ssl_?)?password=)([^&#\s]*)")
_USER_PASSWORD = re.compile(r"(://[^\s:/@]*:)\S*@")

_secrets: ContextVar[tuple[str, ...]] = ContextVar("secrets", default=())


def set_secrets(secrets: Iterable[str]) -> None:
    """Set what `redact` replaces from now on."""
    _secrets.set(tuple(sorted(secrets, key=len, reverse=True)))


def redact(text: str) -> str:
    """Replace the secrets in a text that is not ours."""
    for secret in _secrets.get():
        text = text.replace(secret, "***")
    return text


def mask_passwords(text: str) -> str:
    """Mask the passwords of URLs in a text of ours: a URL that cannot be parsed may still hold one."""
    return _USER_PASSWORD.sub(r"\1***@", _QUERY_PASSWORD.sub(r"\1***", text))


def known_secrets() -> set[str]:
    """Return the secrets of all settings, also of the broken ones."""
    try:
        values: Mapping[str, str] = environment()
    except SettingsError:  # the .env file cannot be read, so it holds no secret of ours
        values = os.environ
    secret_values = [value for name, value in values.items() if name.upper().endswith(_SECRET_SUFFIXES)]
    secrets = {secret for value in secret_values for secret in _secrets_in(value)}
    for url in re.split(r"[\s,;]+", values.get(_NOTIFY_URLS, "")):
        secrets |= {url, *_secrets_in(url)}
    return {secret for secret in secrets | set(map(unquote, secrets)) if len(secret) >= _MIN_SECRET_CHARS}


def _secrets_in(value: str) -> set[str]:
    """Return the passwords of a URL, however broken it is; any other value is secret as a whole."""
    scheme, mark, rest = value.partition("://")
    if not mark or not scheme.isalnum():
        return {value}
    secrets = {password for _, password in _QUERY_PASSWORD.findall(value)}
    for end in (r"[/?#]", r"\?"):  # a password may hold a slash that was not encoded
        user, at_sign, _ = re.split(end, rest, maxsplit=1)[0].rpartition("@")
        secrets |= {user.partition(":")[2]} if at_sign else set()
    return secrets
