"""Runs Lua scripts.

Each is a file in ``scripts/`` next to the module that calls it.  Its header lists keys, arguments and the
invariant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

Argument = str | bytes | int | float


class PipelineExecutor(Protocol):
    """Sends commands that go together in one round trip."""

    async def round_trip(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Return the reply of each command, an error reply as its exception."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the SHA-1 under which the server caches it."""

    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, module: str, name: str, *, functions: str = "") -> Script:
        """Read ``scripts/<name>.lua`` next to ``module``, the caller's ``__name__``.

        ``functions`` is the text of those that it calls, from `read_script`.
        """
        text = functions + read_script(module, name)
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: Sequence[str], args: Sequence[Argument] = ()) -> ScriptCall:
        """Return a call of this script, to be run by `run_scripts`."""
        return ScriptCall(self, keys, args)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One call of a script: its keys and arguments in the order of its header."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument]

    def command(self, *, text: bool = False) -> tuple[Argument, ...]:
        """Return the command that runs it: by SHA-1, or with its text for a server that does not have it."""
        head = ("EVAL", self.script.text) if text else ("EVALSHA", self.script.sha)
        return (*head, len(self.keys), *self.keys, *self.args)


def read_script(module: str, name: str) -> str:
    """Return the text of ``scripts/<name>.lua`` next to ``module``."""
    return files(module.rpartition(".")[0]).joinpath("scripts", f"{name}.lua").read_text()


async def run_scripts(connection: Redis | PipelineExecutor, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run ``calls`` in order and in one round trip.

    Returns one reply for each call.  The reply of a call that failed is its exception, so that the replies of
    the others are not lost.  A script that the server has not cached is sent to it, and runs after the
    others.  Raises redis.exceptions.ConnectionError or TimeoutError if the connection broke: then any of the
    calls may have been executed.
    """
    replies = await _round_trip(connection, [call.command() for call in calls])
    return await run_unknown_scripts(connection, calls, replies)


async def run_unknown_scripts(
    connection: Redis | PipelineExecutor, calls: Sequence[ScriptCall], replies: list[Any]
) -> list[Any]:
    """Run those of ``calls`` again whose script the server had not cached; the replies of all."""
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            (replies[index],) = await _round_trip(connection, [calls[index].command(text=True)])
    return replies


async def run_script(connection: Redis | PipelineExecutor, call: ScriptCall) -> Any:
    """Run one call and return its reply.  Raises redis.exceptions.RedisError."""
    (reply,) = await run_scripts(connection, [call])
    if isinstance(reply, Exception):
        raise reply
    return reply


async def _round_trip(
    connection: Redis | PipelineExecutor, commands: Sequence[tuple[Argument, ...]]
) -> list[Any]:
    if not isinstance(connection, Redis):
        return await connection.round_trip(commands)
    if len(commands) == 1:  # a pipeline of one takes twice as long
        try:
            return [await connection.execute_command(*commands[0])]
        except ResponseError as error:
            return [error]
    pipeline = connection.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies
