"""Tries on a Redis whether the engine may run its commands there, on keys that it removes afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from storage.redis.client import execute
from storage.redis.refusals import MissingRightError, refusal_of
from storage.redis.scripts import Script, ScriptCall, run_script
from workers.engine.keys import WAKE_CHANNEL

PROBE_SCRIPT = Script.load(__name__, "probe")

_KEY = "couturecast:probe"
_SAQ_KEY = "saq:couturecast-probe"
_JOB_CHANNEL = "saq:job:couturecast-probe"
"""Like a job's id: SAQ's producers wait on such a channel for the job's end."""
_CHANNELS = (WAKE_CHANNEL, _JOB_CHANNEL)
_BLOCK_SECONDS = 0.01
_SUBSCRIBE_SECONDS = 2.0
_MAX_NAMED_COMMANDS = 6
"""Missing commands that an error names one by one."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """A command that was refused, and the key or channel that it was tried on."""

    name: str
    on: str
    error: ResponseError

    @property
    def code(self) -> str:
        refusal = refusal_of(self.error)
        return refusal.code if refusal is not None else ""

    @property
    def kind(self) -> Literal["command", "channel", "key"]:
        """The kind of right that is missing."""
        text = str(self.error)
        if re.search(r"run th(e|is)", text):
            return "command"
        return "channel" if "channel" in text else "key"


async def check_reads(redis: Redis) -> None:
    """Raises RedisError if keys cannot be read; on a server in cluster mode, too."""
    await execute(redis, "EXISTS", _KEY, _SAQ_KEY)


async def check_writes(redis: Redis) -> None:
    """Raises RedisError if Redis is down, read-only or full, refuses writes or forbids to publish."""
    await run_script(redis, _probe("writes"))


async def check_write(redis: Redis) -> None:
    """Like `check_writes`, but one command and no publishing: for checks that are made again and again."""
    await execute(redis, "SET", _KEY, "probe", "PX", 1)


async def check_rights(redis: Redis) -> None:
    """Try each command of the engine.

    Raises MissingRightError if the user may not run one, and other RedisErrors if writes are refused.  A full
    server passes, as jobs can end there.
    """
    refusals = await _find_refusals(redis, "rights")
    for name, on, check in (("BLMOVE", _SAQ_KEY, _block), ("SUBSCRIBE", WAKE_CHANNEL, _subscribe)):
        try:
            await check(redis)
        except ResponseError as error:
            refusals.append(_Refused(name, on, error))
    refusals = [command for command in refusals if command.code != "OOM"]
    for command in refusals:
        if command.code != "NOPERM":
            raise command.error
    _raise_missing(refusals, redis)


async def check_permissions(redis: Redis) -> None:
    """Like `check_rights`, but for the commands of scripts only, and without any effect."""
    _raise_missing(await _find_refusals(redis, "check"), redis)


def _probe(mode: str) -> ScriptCall:
    return PROBE_SCRIPT.call([_KEY, _SAQ_KEY], [mode, *_CHANNELS])


async def _find_refusals(redis: Redis, mode: str) -> list[_Refused]:
    reply = await run_script(redis, _probe(mode))
    text = [part.decode(errors="replace") for part in reply]
    return [
        _Refused(name, on, ResponseError(error))
        for name, on, error in zip(text[::3], text[1::3], text[2::3], strict=True)
    ]


async def _block(redis: Redis) -> None:
    await execute(redis, "BLMOVE", _SAQ_KEY, _SAQ_KEY, "LEFT", "LEFT", _BLOCK_SECONDS)


async def _subscribe(redis: Redis) -> None:
    listener = redis.pubsub()
    try:
        await listener.subscribe(WAKE_CHANNEL)
        await listener.get_message(timeout=_SUBSCRIBE_SECONDS)
    finally:
        await listener.aclose()


def _raise_missing(refusals: Sequence[_Refused], redis: Redis) -> None:
    """Raise one error for all that is not permitted, with the rules that permit it."""
    if not refusals:
        return
    options: dict[str, Any] = redis.connection_pool.connection_kwargs
    user = str(options.get("username") or "default")
    missing = list(_missing_rights(refusals))
    actions, rules = [action for action, _ in missing], [rule for _, rule in missing]
    raise MissingRightError(user, ", and may not ".join(actions), " ".join(rules))


def _missing_rights(refusals: Sequence[_Refused]) -> Iterator[tuple[str, str]]:
    """Yield what is not permitted, by kind, each with the rules that permit it."""
    keys = {command.on for command in refusals if command.kind == "key"}
    prefixes = [prefix for prefix in ("saq:", "couturecast:") if any(key.startswith(prefix) for key in keys)]
    if prefixes:
        patterns = [f"{prefix}*" for prefix in prefixes]
        yield f"use all keys {' and '.join(patterns)}", " ".join(f"~{pattern}" for pattern in patterns)
    if channels := [command for command in refusals if command.kind == "channel"]:
        yield f"{channels[0].name} on the channel {channels[0].on}", "&*"
    if names := list(dict.fromkeys(command.name for command in refusals if command.kind == "command")):
        yield _missing_commands(names)


def _missing_commands(names: Sequence[str]) -> tuple[str, str]:
    if len(names) > _MAX_NAMED_COMMANDS:
        return f"run {', '.join(names[:_MAX_NAMED_COMMANDS])} and others", "+@all -@dangerous +info"
    return f"run {', '.join(names)}", " ".join(f"+{name.lower()}" for name in names)
