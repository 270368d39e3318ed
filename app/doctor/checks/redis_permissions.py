"""May we do on a Redis what the product does there?  Each is tried so that it changes nothing."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, cause_of, ok, unknown, wrong
from storage.redis.client import execute
from storage.redis.refusals import MissingRightError, fix_of, problem_of, refusal_of
from workers.engine.probe import check_permissions

Words = tuple[str | int | float, ...]

_HEARD_SECONDS = 2.0
_BLOCK_SECONDS = 0.05


def _rule(server: RedisServer) -> str:
    """What lets our user do all that the product does there."""
    keys = " ".join(f"~{prefix}*" for prefix in server.prefixes)
    return f"ACL SETUSER NAME {keys} &* +@all -@dangerous +info"


def _nothing(prefix: str) -> str:
    """A key that is not there."""
    return f"{prefix}doctor:{secrets.token_hex(8)}"


def _without_effect(key: str) -> list[Words]:
    """Commands of the product that leave a key which is not there as it is."""
    return [
        ("GET", key),
        ("SET", key, 1, "XX"),
        ("DEL", key),
        ("PEXPIRE", key, 1),
        ("HGETALL", key),
        ("HDEL", key, "field"),
        ("LPOP", key),
        ("LREM", key, 0, "element"),
        ("ZADD", key, "XX", 0, "member"),
        ("ZREM", key, "member"),
    ]


async def scripts(server: RedisServer) -> Finding:
    """EVAL, and EVALSHA of a script that nobody has."""
    calls: list[Words] = [
        ("EVAL", "return redis.call('EXISTS', KEYS[1])", 1, _nothing(server.prefixes[-1])),
        ("EVALSHA", "0" * 40, 0),
    ]
    for call in calls:
        try:
            await execute(server.client, *call)
        except NoScriptError:
            continue
        except RedisConnectionError:
            raise
        except RedisError as error:
            return wrong(
                f"{call[0]} is refused: {cause_of(error)}",
                "no job can be taken or settled, as each move of a job is one script",
                f"let our user run scripts: {_rule(server)}",
            )
    return ok("EVAL and EVALSHA are allowed")


async def blocking(server: RedisServer) -> Finding:
    """The wait for a job."""
    key = _nothing("saq:")
    try:
        await execute(server.client, "BLMOVE", key, key, "LEFT", "LEFT", _BLOCK_SECONDS)
    except (ReadOnlyError, OutOfMemoryError):
        return unknown("not checked: the server takes no writes")
    except ResponseError as error:
        return wrong(
            f"BLMOVE is refused: {cause_of(error)}",
            "an idle worker cannot wait for jobs",
            f"use Redis 6.2 or newer, or Valkey; let our user block: {_rule(server)}",
        )
    return ok("BLMOVE waits and returns")


async def messages(server: RedisServer) -> Finding:
    """Publish and subscribe, on a channel of our own."""
    channel = _nothing("couturecast:")
    consequence = "pauses, drains and finished jobs are noticed late"
    listener = server.client.pubsub()
    try:
        await listener.subscribe(channel)
        await listener.get_message(timeout=_HEARD_SECONDS)  # that we are subscribed
        await execute(server.client, "PUBLISH", channel, "heard")
        heard: Any = await listener.get_message(timeout=_HEARD_SECONDS)
    except ResponseError as error:
        return _not_permitted(server, error)
    finally:
        await listener.aclose()
    if heard is None:
        return wrong(
            f"what was published was not heard within {_HEARD_SECONDS:g} s",
            consequence,
            "connect to the server itself, not through a proxy that drops it",
        )
    return ok("what is published is heard")


def _not_permitted(server: RedisServer, error: ResponseError) -> Finding:
    """As the start says it, which refuses to begin then."""
    refusal = refusal_of(error)
    if refusal is None:
        return wrong(f"refused: {cause_of(error)}", "no process starts", f"permit it: {_rule(server)}")
    user = unquote(urlsplit(server.url).username or "default")
    return wrong(problem_of(error, refusal), "no process starts", fix_of(error, refusal, user))


async def engine(server: RedisServer) -> Finding:
    """Each command of the engine's scripts; a start, which may change something, tries them."""
    try:
        await check_permissions(server.client)
    except MissingRightError as error:
        return _not_permitted(server, error)
    except ResponseError as error:
        return unknown(f"not checked: {cause_of(error)}")
    return ok("each command of the engine is permitted")


async def writes(server: RedisServer) -> Finding:
    """Reads and writes on keys of the product's that are not there."""
    calls = [call for prefix in server.prefixes for call in _without_effect(_nothing(prefix))]
    pipeline = server.client.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command(*call)
    replies = await pipeline.execute(raise_on_error=False)
    for call, reply in zip(calls, replies, strict=True):
        if isinstance(reply, RedisConnectionError):
            raise reply
        if isinstance(reply, Exception):
            return _refused(f"{call[0]} {str(call[1]).partition('doctor:')[0]}…", reply, server)
    return ok(f"{' and '.join(server.prefixes)} can be read and written")


def _refused(what: str, error: Exception, server: RedisServer) -> Finding:
    """Why a write is refused, by the error's class or first word."""
    cause = cause_of(error)
    if isinstance(error, NoPermissionError):
        return wrong(f"{what} is not permitted: {cause}", "no job moves", f"permit it: {_rule(server)}")
    if isinstance(error, ReadOnlyError):
        return wrong(
            "the server is a read-only replica",
            "no job can be enqueued, taken or settled",
            f"name the primary in {server.variable}",
        )
    if isinstance(error, OutOfMemoryError):
        return wrong(
            "the server is full (OOM)",
            "nothing can be enqueued until memory is free",
            "raise maxmemory, or remove keys that are not ours; give the cache a CACHE_REDIS_URL",
        )
    if cause.startswith("MISCONF"):
        return wrong(
            "the server cannot write its snapshot to disk (MISCONF), and refuses writes",
            "no job can be enqueued, taken or settled",
            "free its disk, then see its log",
        )
    return wrong(
        f"{what} is refused: {cause}", "jobs cannot move", "see the server's documents for this error"
    )
