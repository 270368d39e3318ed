"""Settings from a ``.env`` file, the environment and flags, in that order of growing strength."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis import Redis

from app.address import DEFAULT_ADDRESS, Address
from app.admin_token import MIN_LENGTH, is_valid
from app.errors import UsageError, exhausted
from workers.engine.policy import DEFAULT_POLICIES, ECONOMICAL, NORMAL, PollIntervals, QueuePolicy, RateLimit

PREFIX = "COUTURECAST_"
DATABASE_FILE = "couturecast.db"
"""In the data directory, where no DATABASE_URL is given."""
_QUEUE_SETTINGS = ("CONCURRENCY", "RATE_LIMIT", "TIMEOUT", "RETRY_DELAYS")
_MENDS = {
    "bool_parsing": "is neither yes nor no: use 1 or 0",
    "int_parsing": "is no whole number: use for instance 5",
    "float_parsing": "is no number: use for instance 30",
}
"""What to do about a value, by pydantic's name of its error, where pydantic's own words do not say it."""


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if not re.match(r"(rediss?|unix)://.", url):
        raise ValueError("use redis://host:port/0, rediss://… or unix:///path")
    try:
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError:  # which quotes what may be part of the password
        raise ValueError(
            "the host or the port cannot be read: in a password write %40 for @, %2F for / and %3A for :"
        ) from None
    try:
        Redis.from_url(url).connection_pool.make_connection()
    except (ValueError, TypeError) as error:
        raise ValueError(f"one of its parameters, or the database number, cannot be used: {error}") from None
    return value


def _database_url(value: SecretStr) -> SecretStr:
    if not re.match(r"(postgres(ql)?://.|sqlite:///.)", value.get_secret_value()):
        raise ValueError("use postgresql://user:password@host/name or sqlite:///path")
    return value


def _direct_url(value: SecretStr) -> SecretStr:
    if not re.match(r"postgres(ql)?://.", value.get_secret_value()):
        raise ValueError("use postgresql://user:password@host/name")
    return value


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{str(path)!r}: there is no such user: write the whole path") from None


def _folders(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [_expanded(Path(part)) for part in value.split(":") if part]


def _http(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return None if value.strip().lower() == "none" else Address.parse(value)


def _token(value: SecretStr) -> SecretStr:
    if not is_valid(value.get_secret_value()):
        raise ValueError(f"use {MIN_LENGTH} characters or more, letters, digits and signs without spaces")
    return value


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("couturecast-tui"))


class Settings(BaseSettings):
    """All settings but those of the queues, which `policies` reads.  Secrets do not show in ``repr``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, validation_alias=AliasChoices("redis_url", "REDIS_URL")
    )
    cache_redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, validation_alias=AliasChoices("cache_redis_url", "CACHE_REDIS_URL")
    )
    """None: the cache lives beside the queues."""
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        default=None, validation_alias=AliasChoices("database_url", "DATABASE_URL")
    )
    direct_url: Annotated[SecretStr, AfterValidator(_direct_url)] | None = Field(
        default=None, validation_alias=AliasChoices("direct_url", "DIRECT_URL")
    )
    """Of the same Postgres past a transaction pooler, for what that cannot carry; Prisma's name for it."""
    upstash_email: str | None = Field(
        default=None, validation_alias=AliasChoices("upstash_email", "UPSTASH_EMAIL")
    )
    upstash_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("upstash_api_key", "UPSTASH_API_KEY")
    )
    upstash_api_url: HttpUrl = Field(
        default=HttpUrl("https://api.upstash.com/v2"),
        validation_alias=AliasChoices("upstash_api_url", "UPSTASH_API_URL"),
    )
    openweather_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("openweather_api_key", "OPENWEATHER_API_KEY")
    )
    openweather_base_url: HttpUrl = Field(
        default=HttpUrl("https://api.openweathermap.org"),
        validation_alias=AliasChoices("openweather_base_url", "OPENWEATHER_BASE_URL"),
    )
    environment: str = Field(default="local", min_length=1, max_length=40)
    data_dir: Annotated[Path, AfterValidator(_expanded)] = Field(default_factory=_default_data_dir)
    handlers: str = ""
    image_dirs: Annotated[list[Path], NoDecode, BeforeValidator(_folders)] = Field(default_factory=list)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: float = Field(default=30.0, ge=0, le=86_400)
    start_patience: float = Field(default=30.0, ge=0, le=3_600)
    """Seconds to wait at start for servers that do not answer."""
    db_pool_size: int = Field(default=5, ge=1, le=90)
    allow_private_addresses: bool = False
    read_only: bool = False
    """Whether the operator's verbs that change something are refused."""
    http: Annotated[Address | None, NoDecode, BeforeValidator(_http)] = DEFAULT_ADDRESS
    """Where the long-running forms serve HTTP; None: nowhere."""
    admin_token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """None: one is kept in the data directory."""
    economical: bool | None = None
    """None: economical where Redis is Upstash's."""
    moderation_url: HttpUrl | None = None
    moderation_key: SecretStr | None = None
    _flags: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def pace(self) -> PollIntervals:
        """What an idle process spends; Upstash bills every command."""
        url = self.redis_url.get_secret_value() if self.redis_url else ""
        return ECONOMICAL if (at_upstash(url) if self.economical is None else self.economical) else NORMAL

    @property
    def http_named(self) -> bool:
        """Whether somebody named the address, so that another one will not do."""
        return "http" in self.model_fields_set

    @property
    def http_name(self) -> str:
        """What names the address."""
        return "--http" if "http" in self._flags else f"{PREFIX}HTTP"

    @classmethod
    def read(cls, **flags: Any) -> Settings:
        """The settings; ``flags`` that are None count as not given.

        Raises UsageError with one line for each problem: the variable, what is wrong, how to mend it.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            raise UsageError("\n".join(_problem(each) for each in error.errors())) from None
        settings._flags = frozenset(given)
        return settings


def read(**flags: Any) -> tuple[Settings, dict[str, QueuePolicy]]:
    """Settings and policies.  Raises UsageError with all problems at once, a line each."""
    values = environment()
    problems = []
    settings = made = None
    try:
        settings = Settings.read(**flags)
    except UsageError as error:
        problems.append(str(error))
    try:
        made = policies(values)
    except UsageError as error:
        problems.append(str(error))
    if settings is None or made is None:
        raise UsageError("\n".join(problems))
    return settings, made


def at_upstash(url: str) -> bool:
    """Whether the server of a Redis URL is Upstash's."""
    return (urlsplit(url).hostname or "").endswith(".upstash.io")


def environment() -> dict[str, str]:
    """The ``.env`` file of the working directory with the environment over it.

    A variable without a value counts as not given.  Raises UsageError where the file cannot be read.
    """
    try:
        values = dotenv_values(".env")
    except OSError as error:
        problem = exhausted(error) or f"{error.strerror}: mend it or remove it"
        raise UsageError(f".env cannot be read: {problem}") from None
    except UnicodeDecodeError:
        raise UsageError(".env is no UTF-8 text: save it as UTF-8") from None
    given = {name: value for name, value in values.items() if value}
    return given | {name: value for name, value in os.environ.items() if value}


def policies(values: Mapping[str, str] | None = None) -> dict[str, QueuePolicy]:
    """The policy of each queue, with what the settings override.  Raises UsageError, a line a problem."""
    values = environment() if values is None else values
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "CONCURRENCY": ("concurrency", _concurrency),
        "RATE_LIMIT": ("rate_limit", _rate_limit),
        "TIMEOUT": ("timeout", _timeout),
        "RETRY_DELAYS": ("retry_delays", _retry_delays),
    }
    made, problems = {}, []
    for name, policy in DEFAULT_POLICIES.items():
        changes = {}
        for suffix, (field, read) in readers.items():
            variable = f"{PREFIX}{name.upper().replace('-', '_')}_{suffix}"
            text = values.get(variable, "")
            if text == "":
                continue
            try:
                changes[field] = read(text)
            except ValueError as error:
                problems.append(f"{variable}: {text!r} {error}")
        made[name] = replace(policy, **changes)
    if problems:
        raise UsageError("\n".join(problems))
    return made


def probable_typos(values: Mapping[str, str] | None = None) -> list[str]:
    """One line for each COUTURECAST_ variable that nothing reads."""
    values = environment() if values is None else values
    queues = [name.upper().replace("-", "_") for name in DEFAULT_POLICIES]
    known = [variable(field) for field in Settings.model_fields]
    known += [f"{PREFIX}{queue}_{setting}" for queue in queues for setting in _QUEUE_SETTINGS]
    lines = []
    for name in values:
        if name.startswith(PREFIX) and name not in known and not name.startswith(f"{PREFIX}TEST_"):
            bare = name.removeprefix(PREFIX)
            near = [bare] if bare in known else difflib.get_close_matches(name, known, 1)
            lines.append(f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ""))
    return lines


def variable(field: str) -> str:
    """The environment variable that a field is read from."""
    aliased = Settings.model_fields[field].validation_alias is not None
    return field.upper() if aliased else PREFIX + field.upper()


def _problem(error: Any) -> str:
    """One line; never the value, which may be a secret."""
    message = _MENDS.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    if message[1:2].islower():  # not an acronym
        message = message[0].lower() + message[1:]
    return f"{variable(str(error['loc'][0]).lower())}: {message}"


def _concurrency(text: str) -> int:
    number = _number(text, int, "is no whole number: use for instance 5")
    if not 1 <= number <= 1000:
        raise ValueError("is not between 1 and 1000")
    return int(number)


def _timeout(text: str) -> float:
    number = _number(text, float, "is no number of seconds: use for instance 60")
    if not 0 < number <= 86_400:
        raise ValueError("is not between 0 and 86400 seconds")
    return number


def _rate_limit(text: str) -> RateLimit | None:
    if text.lower() == "none":
        return None
    starts, slash, seconds = text.partition("/")
    mend = "is no rate: use starts/seconds, for instance 60/60, or none"
    limit = RateLimit(int(_number(starts, int, mend)), _number(seconds if slash else "x", float, mend))
    if limit.starts < 1 or not 0 < limit.seconds <= 86_400:
        raise ValueError(mend)
    return limit


def _retry_delays(text: str) -> tuple[float, ...]:
    if text.lower() == "none":
        return ()
    mend = "is no list of seconds: use for instance 1,5,25, or none"
    delays = tuple(_number(part, float, mend) for part in text.split(","))
    if any(not 0 <= delay <= 86_400 for delay in delays):
        raise ValueError(mend)
    return delays


def _number(text: str, kind: type[int] | type[float], mend: str) -> float:
    try:
        return float(TypeAdapter(kind).validate_python(text.strip()))
    except (ValidationError, OverflowError):
        raise ValueError(mend) from None
