"""Upstash's management API, version 2: the databases of one account.

Source: https://upstash.com/docs/devops/developer-api/introduction.  Its budgets are cents a month.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr, ValidationError

from app.errors import UsageError
from app.settings import Settings
from app.upstash.database import CONSOLE, HIDDEN, Database
from app.upstash.diff import Change
from app.upstash.errors import UpstashError
from app.upstash.spec import Wanted, platform_of

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)  # s
_LONGEST_REASON = 200
_KEYS = "https://console.upstash.com/account/api"
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
_LISTING = "to list the databases"


class Account:
    """One account.  Nothing is asked twice by itself; its errors never hold the key."""

    def __init__(
        self, url: str, email: str, key: SecretStr, *, timeout: httpx.Timeout | float = _TIMEOUT
    ) -> None:
        self._email = email
        self._key = key
        self._client = httpx.Client(
            base_url=url, auth=(email, key.get_secret_value()), timeout=timeout, follow_redirects=False
        )

    def close(self) -> None:
        """Give up its connection."""
        self._client.close()

    def databases(self, names: Collection[str]) -> Sequence[Database]:
        """Those of these names; the others of the account are not looked at.  Raises UpstashError."""
        answer = self._ask("GET", "/redis/databases", _LISTING)
        if not isinstance(answer, list) or not all(map(_is_database, answer)):
            raise UpstashError(f"{_LISTING}: {self._host} answers no list of databases: {_CHECK_URL}")
        return [_read(each) for each in answer if each["database_name"] in names]

    def create(self, wanted: Wanted) -> None:
        """Make a database.  Raises UpstashError; where that says so it may have been made."""
        body = {
            "database_name": wanted.name,
            "platform": platform_of(wanted.region),
            "primary_region": wanted.region,
            "plan": wanted.plan,
            "eviction": wanted.eviction,
            "tls": True,
        }
        if wanted.budget is not None:
            body["budget"] = _cents(wanted.budget)
        self._ask("POST", "/redis/database", f"to create {wanted.name}", body)

    def change(self, change: Change) -> None:
        """Make one change to a database that is there.  Raises UpstashError."""
        method, path, body = _request(change)
        self._ask(method, path, f"to {change}", body)

    def password(self, database: Database) -> SecretStr:
        """What its clients log in with.  Raises UpstashError."""
        what = f"to get the password of {database.database_name}"
        answer = self._ask("GET", f"/redis/database/{quote(database.database_id, safe='')}", what)
        found = answer.get("password") if isinstance(answer, dict) else None
        if not isinstance(found, str) or not found:
            raise UpstashError(f"{what}: Upstash tells none to this key: use one that may read credentials")
        return SecretStr(found)

    @property
    def _host(self) -> str:
        return self._client.base_url.host

    def _ask(self, method: str, path: str, what: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to one request.  Raises UpstashError."""
        try:
            response = self._client.request(method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError):
            raise UpstashError(f"{what}: {self._host} cannot be reached: {_CHECK_NETWORK}") from None
        except httpx.HTTPError:
            raise UpstashError(f"{what}: no answer from {self._host}: {_again(method)}") from None
        if not response.is_success:
            raise UpstashError(f"{what}: {self._refusal(response)}")
        if method != "GET" and not response.content:
            return None
        try:
            return response.json()
        except (JSONDecodeError, UnicodeDecodeError):
            mend = _CHECK_URL if method == "GET" else "it may have been done: run plan, which looks"
            raise UpstashError(f"{what}: {self._host} answers no JSON: {mend}") from None

    def _refusal(self, response: httpx.Response) -> str:
        """Why it was not done, and what to do."""
        status, reason = response.status_code, self._reason(response)
        if status == httpx.codes.UNAUTHORIZED:
            return (
                f"Upstash refuses the key (401): check UPSTASH_EMAIL and UPSTASH_API_KEY; {_KEYS} makes one"
            )
        if status == httpx.codes.FORBIDDEN:
            return (
                f"Upstash forbids it to this key (403{reason}): use one that may write, of the right account"
            )
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return f"Upstash was asked too often (429{reason}): try again {_later(response)}"
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return f"Upstash failed ({status}{reason}): {_again(response.request.method)}"
        if status >= httpx.codes.BAD_REQUEST:
            return f"Upstash refuses it ({status}{reason}): docs/upstash.md says what each plan allows"
        return f"{self._host} answers {status}: {_CHECK_URL}"

    def _reason(self, response: httpx.Response) -> str:
        """What it says itself, short, and without the key."""
        try:
            said = response.json()
        except (JSONDecodeError, UnicodeDecodeError):
            return ""
        text = said.get("error") or said.get("message") if isinstance(said, dict) else said
        if not isinstance(text, str) or not text.strip():
            return ""
        hidden = " ".join(self._hidden(text).split())
        return f": {hidden[:_LONGEST_REASON]}"

    def _hidden(self, text: str) -> str:
        """Without the key, also as the request's header carries it, which a proxy may quote."""
        key = self._key.get_secret_value()
        header = base64.b64encode(f"{self._email}:{key}".encode()).decode()
        return text.replace(header, HIDDEN).replace(key, HIDDEN)


_CHECK_NETWORK = "check the network, its proxy and UPSTASH_API_URL"
_CHECK_URL = "check UPSTASH_API_URL"


@contextmanager
def account(settings: Settings) -> Iterator[Account]:
    """The account that the settings name.  Raises UsageError where they name none."""
    email, key, url = settings.upstash_email, settings.upstash_api_key, settings.upstash_api_url
    if not email or key is None or not key.get_secret_value():
        raise UsageError(f"UPSTASH_EMAIL and UPSTASH_API_KEY are both needed: {_KEYS} makes a key")
    if url.scheme != "https" and url.host not in _LOOPBACK:
        raise UsageError("UPSTASH_API_URL: use https://: the key would go over the network for all to read")
    try:
        found = Account(str(url), email, key)
    except (ImportError, ValueError, httpx.InvalidURL):
        raise UsageError(
            "HTTPS_PROXY or ALL_PROXY names no proxy that can be used: use http://host:port"
        ) from None
    try:
        yield found
    finally:
        found.close()


def _is_database(described: Any) -> bool:
    return isinstance(described, dict) and "database_name" in described


def _read(described: Mapping[str, Any]) -> Database:
    """Raises UpstashError, which names the database and what of it cannot be read."""
    try:
        return Database.model_validate(described)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        field = ".".join(map(str, problem["loc"]))
        wrong = "is not told" if problem["type"] == "missing" else f"cannot be read ({problem['msg']})"
        raise UpstashError(
            f"{_LISTING}: {described['database_name']}: its {field} {wrong}: "
            f"{_CHECK_URL}, and look at the database at {CONSOLE}"
        ) from None


def _request(change: Change) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body of a change."""
    name = quote(change.database_id or "", safe="")
    if change.what == "eviction":
        return "POST", f"/redis/{'enable' if change.after else 'disable'}-eviction/{name}", None
    if change.what == "tls":
        return "POST", f"/redis/enable-tls/{name}", None
    if change.what == "plan":
        return "POST", f"/redis/{name}/change-plan", {"plan_name": change.after}
    if change.what == "budget":
        return "PATCH", f"/redis/update-budget/{name}", {"budget": _cents(change.after)}
    raise ValueError(change.what)


def _cents(dollars: Any) -> int:
    return round(float(dollars) * 100)


def _again(method: str) -> str:
    """What to do where it is not known whether it was done."""
    return "try again later" if method == "GET" else "it may have been done: apply again, which looks first"


def _later(response: httpx.Response) -> str:
    seconds = response.headers.get("Retry-After", "")
    return f"in {int(seconds)} s" if seconds.isascii() and seconds.isdigit() else "in a minute"
