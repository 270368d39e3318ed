"""Checks what our user may do on a Redis, by commands that change nothing."""

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
from app.doctor.results import Finding, describe_cause, ok, unknown, wrong
from storage.redis.client import execute
from storage.redis.refusals import MissingRightError, fix_of, problem_of, refusal_of
from workers.engine.probe import check_permissions

_Command = tuple[str | int | float, ...]

_MESSAGE_TIMEOUT_SECONDS = 2.0
_BLOCK_SECONDS = 0.05


def _acl_rule(server: RedisServer) -> str:
    """Return the command that permits our user all that the product does there."""
    keys = " ".join(f"~{prefix}*" for prefix in server.prefixes)
    return f"ACL SETUSER NAME {keys} &* +@all -@dangerous +info"


def _unused_key(prefix: str) -> str:
    """Return a key that does not exist."""
    return f"{prefix}doctor:{secrets.token_hex(8)}"


def _harmless_commands(key: str) -> list[_Command]:
    """Return commands of the product that do not change a key that does not exist."""
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
    """Try EVAL, and EVALSHA of a script that the server does not have."""
    commands: list[_Command] = [
        ("EVAL", "return redis.call('EXISTS', KEYS[1])", 1, _unused_key(server.prefixes[-1])),
        ("EVALSHA", "0" * 40, 0),
    ]
    for command in commands:
        try:
            await execute(server.client, *command)
        except NoScriptError:
            continue
        except RedisConnectionError:
            raise
        except RedisError as error:
            return wrong(
                f"{command[0]} is refused: {describe_cause(error)}",
                "no job can be taken or settled, as each move of a job is one script",
                f"let our user run scripts: {_acl_rule(server)}",
            )
    return ok("EVAL and EVALSHA are allowed")


async def blocking(server: RedisServer) -> Finding:
    """Try BLMOVE, by which a worker waits for a job."""
    key = _unused_key("saq:")
    try:
        await execute(server.client, "BLMOVE", key, key, "LEFT", "LEFT", _BLOCK_SECONDS)
    except (ReadOnlyError, OutOfMemoryError):
        return unknown("not checked: the server takes no writes")
    except ResponseError as error:
        return wrong(
            f"BLMOVE is refused: {describe_cause(error)}",
            "an idle worker cannot wait for jobs",
            f"use Redis 6.2 or newer, or Valkey; let our user block: {_acl_rule(server)}",
        )
    return ok("BLMOVE waits and returns")


async def messages(server: RedisServer) -> Finding:
    """Publish and receive a message on a channel of our own."""
    channel = _unused_key("couturecast:")
    consequence = "pauses, drains and finished jobs are noticed late"
    listener = server.client.pubsub()
    try:
        await listener.subscribe(channel)
        await listener.get_message(timeout=_MESSAGE_TIMEOUT_SECONDS)  # confirms the subscription
        await execute(server.client, "PUBLISH", channel, "probe")
        received: Any = await listener.get_message(timeout=_MESSAGE_TIMEOUT_SECONDS)
    except ResponseError as error:
        return _not_permitted(server, error)
    finally:
        await listener.aclose()
    if received is None:
        return wrong(
            f"a published message did not arrive within {_MESSAGE_TIMEOUT_SECONDS:g} s",
            consequence,
            "connect to the server itself, not through a proxy that drops messages",
        )
    return ok("a published message arrives")


def _not_permitted(server: RedisServer, error: ResponseError) -> Finding:
    """Return the problem and the fix that a start reports in this case."""
    refusal = refusal_of(error)
    if refusal is None:
        return wrong(
            f"refused: {describe_cause(error)}", "no process starts", f"permit it: {_acl_rule(server)}"
        )
    user = unquote(urlsplit(server.url).username or "default")
    return wrong(problem_of(error, refusal), "no process starts", fix_of(error, refusal, user))


async def engine(server: RedisServer) -> Finding:
    """Check the right to each command of the engine's scripts; a start runs the scripts themselves."""
    try:
        await check_permissions(server.client)
    except MissingRightError as error:
        return _not_permitted(server, error)
    except ResponseError as error:
        return unknown(f"not checked: {describe_cause(error)}")
    return ok("each command of the engine is permitted")


async def writes(server: RedisServer) -> Finding:
    """Try reads and writes on keys of the product that do not exist."""
    commands = [command for prefix in server.prefixes for command in _harmless_commands(_unused_key(prefix))]
    pipeline = server.client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies = await pipeline.execute(raise_on_error=False)
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, RedisConnectionError):
            raise reply
        if isinstance(reply, Exception):
            return _refusal_finding(f"{command[0]} {str(command[1]).partition('doctor:')[0]}…", reply, server)
    return ok(f"{' and '.join(server.prefixes)} can be read and written")


def _refusal_finding(label: str, error: Exception, server: RedisServer) -> Finding:
    """Return why a write is refused, by the error's class or first word."""
    cause = describe_cause(error)
    if isinstance(error, NoPermissionError):
        return wrong(f"{label} is not permitted: {cause}", "no job moves", f"permit it: {_acl_rule(server)}")
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
        f"{label} is refused: {cause}", "jobs cannot move", "see the server's documents for this error"
    )
