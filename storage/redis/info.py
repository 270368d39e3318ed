"""Parses what a Redis or Valkey reports about itself by INFO, or by HELLO if INFO is denied."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Facts about a server; None, or '' for a text, if the server does not report one."""

    redis_version: str = ""
    """The Redis version that the server is compatible with."""
    valkey_version: str = ""
    role: str = ""
    """``master``, ``slave`` or ``replica``."""
    mode: str = ""
    """``standalone``, ``cluster`` or ``sentinel``."""
    run_id: str = ""
    """The id of this run of the server's process."""
    used_memory: int | None = None
    """Bytes."""
    max_memory: int | None = None
    """Bytes; 0: no limit."""
    evicted_keys: int | None = None
    """Keys that the server has evicted since it started."""
    eviction_policy: str = ""
    """Its ``maxmemory-policy``."""
    connected_clients: int | None = None
    max_clients: int | None = None
    append_only: bool | None = None
    """Whether it keeps an append-only file."""
    append_only_writable: bool = True
    """Whether the last write to that file succeeded."""

    @classmethod
    def parse_text(cls, reply: bytes) -> ServerInfo:
        """Parse the reply of INFO as the server sends it."""
        lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
        return cls.parse({name: value for name, colon, value in lines if colon})

    @classmethod
    def parse(cls, info: Mapping[str, Any]) -> ServerInfo:
        """Parse the reply; managed servers leave out fields, and any field may be malformed."""
        append_only = parse_whole_number(info.get("aof_enabled"))
        return cls(
            redis_version=_text(info, "redis_version"),
            valkey_version=_text(info, "valkey_version"),
            role=_text(info, "role"),
            mode=_text(info, "redis_mode") or _text(info, "server_mode"),
            run_id=_text(info, "run_id"),
            used_memory=parse_whole_number(info.get("used_memory")),
            max_memory=parse_whole_number(info.get("maxmemory")),
            evicted_keys=parse_whole_number(info.get("evicted_keys")),
            eviction_policy=_text(info, "maxmemory_policy"),
            connected_clients=parse_whole_number(info.get("connected_clients")),
            max_clients=parse_whole_number(info.get("maxclients")),
            append_only=None if append_only is None else append_only == 1,
            append_only_writable=_text(info, "aof_last_write_status") in ("", "ok"),
        )


async def reply_or_empty(request: Awaitable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the reply to a request for facts; an empty one if the server denies it, or it cannot be parsed.

    Raises RedisError or OSError if the server does not answer.
    """
    try:
        return dict(await request)
    except (RedisConnectionError, RedisTimeoutError, OSError):
        raise
    except Exception:  # redis-py raises many while it parses an unusual reply
        return {}


def parse_whole_number(value: Any) -> int | None:
    """Parse a number of a server's reply; None if it is not a number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if math.isfinite(number) else None


def _text(info: Mapping[str, Any], name: str) -> str:
    value = info.get(name)
    return "" if value is None else str(value)
