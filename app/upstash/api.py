"""Calls Upstash's management API, version 2, for the databases of one account.

Source: https://upstash.com/docs/devops/developer-api/introduction.  Budgets are in cents a month.
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
from app.upstash.spec import DatabaseSpec, platform_of
from storage.validation import validation_problems

_TIMEOUT_SECONDS = httpx.Timeout(30.0, connect=10.0)
_MAX_REASON_CHARS = 200
_KEYS_URL = "https://console.upstash.com/account/api"
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
_LISTING = "to list the databases"


class UpstashApi:
    """One account.  It never repeats a request by itself, and its errors never hold the key."""

    def __init__(
        self, url: str, email: str, key: SecretStr, *, timeout: httpx.Timeout | float = _TIMEOUT_SECONDS
    ) -> None:
        self._email = email
        self._key = key
        self._client = httpx.Client(
            base_url=url, auth=(email, key.get_secret_value()), timeout=timeout, follow_redirects=False
        )

    def close(self) -> None:
        """Close its connection."""
        self._client.close()

    def databases(self, names: Collection[str]) -> Sequence[Database]:
        """Return the databases of these names.  Raises UpstashError."""
        answer = self._request("GET", "/redis/databases", _LISTING)
        if not isinstance(answer, list) or not all(map(_is_database, answer)):
            raise UpstashError(f"{_LISTING}: {self._host} answers no list of databases", fix=_CHECK_URL)
        return [_parse(described) for described in answer if described["database_name"] in names]

    def create(self, spec: DatabaseSpec) -> None:
        """Create a database.  Raises UpstashError, whose text has it if the database may exist now."""
        body = {
            "database_name": spec.name,
            "platform": platform_of(spec.region),
            "primary_region": spec.region,
            "plan": spec.plan,
            "eviction": spec.eviction,
            "tls": True,
        }
        if spec.budget is not None:
            body["budget"] = _cents(spec.budget)
        self._request("POST", "/redis/database", f"to create {spec.name}", body)

    def change(self, change: Change) -> None:
        """Make one change to a database that exists.  Raises UpstashError."""
        method, path, body = _to_request(change)
        self._request(method, path, f"to {change}", body)

    def password(self, database: Database) -> SecretStr:
        """Return the password of its clients.  Raises UpstashError."""
        purpose = f"to get the password of {database.database_name}"
        answer = self._request("GET", f"/redis/database/{quote(database.database_id, safe='')}", purpose)
        password = answer.get("password") if isinstance(answer, dict) else None
        if not isinstance(password, str) or not password:
            raise UpstashError(
                f"{purpose}: Upstash returns none to this key", fix="use one that may read credentials"
            )
        return SecretStr(password)

    @property
    def _host(self) -> str:
        return self._client.base_url.host

    def _request(self, method: str, path: str, purpose: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request and return its answer.  Raises UpstashError."""
        try:
            response = self._client.request(method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError):
            raise UpstashError(f"{purpose}: {self._host} cannot be reached", fix=_CHECK_NETWORK) from None
        except httpx.HTTPError:
            raise UpstashError(f"{purpose}: no answer from {self._host}", fix=_retry_hint(method)) from None
        if not response.is_success:
            problem, fix = self._refusal(response)
            raise UpstashError(f"{purpose}: {problem}", fix=fix)
        if method != "GET" and not response.content:
            return None
        try:
            return response.json()
        except (JSONDecodeError, UnicodeDecodeError):
            fix = _CHECK_URL if method == "GET" else "it may have been done: run plan, which shows it"
            raise UpstashError(f"{purpose}: {self._host} answers no JSON", fix=fix) from None

    def _refusal(self, response: httpx.Response) -> tuple[str, str]:
        """Return problem and fix of a request that failed."""
        status, reason = response.status_code, self._reason(response)
        if status == httpx.codes.UNAUTHORIZED:
            fix = f"check UPSTASH_EMAIL and UPSTASH_API_KEY; {_KEYS_URL} makes a key"
            return "Upstash refuses the key (401)", fix
        if status == httpx.codes.FORBIDDEN:
            fix = "use one that may write, of the right account"
            return f"Upstash forbids it to this key (403{reason})", fix
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return f"Upstash refuses further requests (429{reason})", f"retry {_retry_after(response)}"
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return f"Upstash failed ({status}{reason})", _retry_hint(response.request.method)
        if status >= httpx.codes.BAD_REQUEST:
            fix = "docs/upstash.md says what each plan allows"
            return f"Upstash refuses it ({status}{reason})", fix
        return f"{self._host} answers {status}", _CHECK_URL

    def _reason(self, response: httpx.Response) -> str:
        """Return Upstash's own message, cut and without the key."""
        try:
            body = response.json()
        except (JSONDecodeError, UnicodeDecodeError):
            return ""
        text = body.get("error") or body.get("message") if isinstance(body, dict) else body
        if not isinstance(text, str) or not text.strip():
            return ""
        message = " ".join(self._redact(text).split())
        return f": {message[:_MAX_REASON_CHARS]}"

    def _redact(self, text: str) -> str:
        """Replace the key, also in the form of the request's header, which a proxy may quote."""
        key = self._key.get_secret_value()
        header = base64.b64encode(f"{self._email}:{key}".encode()).decode()
        return text.replace(header, HIDDEN).replace(key, HIDDEN)


_CHECK_NETWORK = "check the network, its proxy and UPSTASH_API_URL"
_CHECK_URL = "check UPSTASH_API_URL"


@contextmanager
def open_api(settings: Settings) -> Iterator[UpstashApi]:
    """Open the account that the settings name.  Raises UsageError if they name none."""
    email, key, url = settings.upstash_email, settings.upstash_api_key, settings.upstash_api_url
    if not email or key is None or not key.get_secret_value():
        raise UsageError("UPSTASH_EMAIL and UPSTASH_API_KEY are both needed", fix=f"{_KEYS_URL} makes a key")
    if url.scheme != "https" and url.host not in _LOOPBACK:
        problem = "the key would be sent unencrypted"
        raise UsageError(problem, field="UPSTASH_API_URL", fix="use https://")
    try:
        api = UpstashApi(str(url), email, key)
    except (ImportError, ValueError, httpx.InvalidURL):
        raise UsageError(
            "HTTPS_PROXY or ALL_PROXY names no proxy that can be used", fix="use http://host:port"
        ) from None
    try:
        yield api
    finally:
        api.close()


def _is_database(described: Any) -> bool:
    return isinstance(described, dict) and "database_name" in described


def _parse(described: Mapping[str, Any]) -> Database:
    """Parse a description.  Raises UpstashError, which names the database and the field."""
    try:
        return Database.model_validate(described)
    except ValidationError as error:
        invalid = validation_problems(error)[0]
        problem = "is missing" if invalid.type == "missing" else f"cannot be read ({invalid.problem})"
        raise UpstashError(
            f"{_LISTING}: {described['database_name']}: its {invalid.field} {problem}",
            fix=f"{_CHECK_URL}, and see the database at {CONSOLE}",
        ) from None


def _to_request(change: Change) -> tuple[str, str, dict[str, Any] | None]:
    """Return method, path and body of a change."""
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


def _retry_hint(method: str) -> str:
    """Return the fix if it is unknown whether the request was done."""
    return "retry later" if method == "GET" else "it may have been done: apply again, which compares first"


def _retry_after(response: httpx.Response) -> str:
    seconds = response.headers.get("Retry-After", "")
    return f"in {int(seconds)} s" if seconds.isascii() and seconds.isdigit() else "in a minute"
