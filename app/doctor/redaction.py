"""What no line may show: foreign words, as of a driver or a handler's module, may quote it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from urllib.parse import unquote

from app.errors import UsageError
from app.settings import environment

_SHORTEST = 4
_HOLDERS = ("_URL", "_KEY", "_TOKEN")
"""How variables end whose values are secret, or hold a password."""
_IN_QUERY = re.compile(r"(?i)([?&](?:ssl_?)?password=)([^&#\s]*)")
_IN_PLACE = re.compile(r"(://[^\s:/@]*:)\S*@")

_secrets: ContextVar[tuple[str, ...]] = ContextVar("secrets", default=())


def conceal(secrets: Iterable[str]) -> None:
    """Let `concealed` show none of them from now on."""
    _secrets.set(tuple(sorted(secrets, key=len, reverse=True)))


def concealed(text: str) -> str:
    """Somebody else's words without our secrets."""
    for secret in _secrets.get():
        text = text.replace(secret, "***")
    return text


def without_passwords(text: str) -> str:
    """Our own words; a URL in them is one that could not be taken apart in the usual way."""
    return _IN_PLACE.sub(r"\1***@", _IN_QUERY.sub(r"\1***", text))


def secrets_given() -> set[str]:
    """Those of all settings, also of the broken ones."""
    try:
        values: Mapping[str, str] = environment()
    except UsageError:  # the .env file, which is not read at all then
        values = os.environ
    held = [value for name, value in values.items() if name.upper().endswith(_HOLDERS)]
    found = {secret for value in held for secret in _of(value)}
    return {each for each in found | set(map(unquote, found)) if len(each) >= _SHORTEST}


def _of(value: str) -> set[str]:
    """The passwords of a URL, however broken it is; what is none is secret as a whole."""
    scheme, mark, rest = value.partition("://")
    if not mark or not scheme.isalnum():
        return {value}
    found = {password for _, password in _IN_QUERY.findall(value)}
    for end in (r"[/?#]", r"\?"):  # whoever wrote a password with a slash meant it
        user, at, _ = re.split(end, rest, maxsplit=1)[0].rpartition("@")
        found |= {user.partition(":")[2]} if at else set()
    return found
