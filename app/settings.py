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
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import UsageError
from workers.policy import DEFAULT_POLICIES, ECONOMICAL, NORMAL, Pace, QueuePolicy, RateLimit

PREFIX = "COUTURECAST_"
_QUEUE_SETTINGS = ("CONCURRENCY", "RATE_LIMIT", "TIMEOUT", "RETRY_DELAYS")


def _redis_url(value: SecretStr) -> SecretStr:
    if not re.match(r"(rediss?|unix)://.", value.get_secret_value()):
        raise ValueError("use redis://host:port/0, rediss://… or unix:///path")
    return value


def _database_url(value: SecretStr) -> SecretStr:
    if not re.match(r"(postgres(ql)?://.|sqlite:///.)", value.get_secret_value()):
        raise ValueError("use postgresql://user:password@host/name or sqlite:///path")
    return value


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("couturecast-tui"))


class Settings(BaseSettings):
    """All settings but those of the queues, which `policies` reads.  Secrets do not show in ``repr``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, validation_alias=AliasChoices("redis_url", "REDIS_URL")
    )
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        default=None, validation_alias=AliasChoices("database_url", "DATABASE_URL")
    )
    openweather_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("openweather_api_key", "OPENWEATHER_API_KEY")
    )
    openweather_base_url: HttpUrl = Field(
        default=HttpUrl("https://api.openweathermap.org"),
        validation_alias=AliasChoices("openweather_base_url", "OPENWEATHER_BASE_URL"),
    )
    environment: str = Field(default="local", min_length=1, max_length=40)
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(default_factory=_default_data_dir)
    handlers: str = ""
    image_dirs: Annotated[list[Path], NoDecode] = Field(default_factory=list)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: float = Field(default=30.0, ge=0, le=86_400)
    start_patience: float = Field(default=30.0, ge=0, le=3_600)
    """Seconds to wait at start for servers that do not answer."""
    db_pool_size: int = Field(default=5, ge=1, le=90)
    allow_private_addresses: bool = False
    economical: bool | None = None
    """None: economical where Redis is Upstash's."""
    moderation_url: HttpUrl | None = None
    moderation_key: SecretStr | None = None

    def __init__(self, **flags: Any) -> None:
        if isinstance(flags.get("image_dirs"), str):
            flags["image_dirs"] = _folders(flags["image_dirs"])
        super().__init__(**flags)

    @property
    def pace(self) -> Pace:
        """What an idle process spends; Upstash bills every command."""
        url = self.redis_url.get_secret_value() if self.redis_url else ""
        billed = (urlsplit(url).hostname or "").endswith(".upstash.io")
        return ECONOMICAL if (billed if self.economical is None else self.economical) else NORMAL

    @classmethod
    def read(cls, **flags: Any) -> Settings:
        """The settings; ``flags`` that are None count as not given.

        Raises UsageError with one line for each problem: the variable, what is wrong, how to mend it.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        folders = environment().get(PREFIX + "IMAGE_DIRS")
        if folders and "image_dirs" not in given:
            given["image_dirs"] = _folders(folders)
        try:
            return cls(**given)
        except ValidationError as error:
            raise UsageError("\n".join(_problem(each) for each in error.errors())) from None


def read(**flags: Any) -> tuple[Settings, dict[str, QueuePolicy]]:
    """Settings and policies.  Raises UsageError with all problems at once, a line each."""
    problems = []
    for reader in (lambda: Settings.read(**flags), policies):
        try:
            reader()
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))
    return Settings.read(**flags), policies()


def environment() -> dict[str, str]:
    """The ``.env`` file of the working directory with the environment over it."""
    values = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return values | dict(os.environ)


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
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    known += [f"{PREFIX}{queue}_{setting}" for queue in queues for setting in _QUEUE_SETTINGS]
    lines = []
    for name in values:
        if name.startswith(PREFIX) and name not in known and not name.startswith(f"{PREFIX}TEST_"):
            near = difflib.get_close_matches(name, known, 1)
            lines.append(f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ""))
    return lines


def _folders(text: str) -> list[Path]:
    return [Path(part).expanduser() for part in text.split(":") if part]


def _problem(error: Any) -> str:
    field = str(error["loc"][0]) if error["loc"] else "settings"
    plain = field.upper()
    bare = plain if plain.startswith(("REDIS", "DATABASE", "OPENWEATHER")) else PREFIX + plain
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{bare}: {message[0].lower()}{message[1:]}"


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
    except ValidationError:
        raise ValueError(mend) from None
