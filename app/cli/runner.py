"""Runs one operation for a command: settings, servers, operation, exit code.

The engine is imported here, when an operation runs.  The files of the commands import its types only, since
their help and the completion of their options must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from app.errors import AppError, explain_shortage
from app.imports import without_collector
from app.process.interrupts import raise_on_interrupt
from storage.errors import ApplianceError, one_line

if TYPE_CHECKING:
    from app.servers.database_startup import DatabaseUse
    from app.servers.redis_startup import RedisUse
    from workers.operations.operations import Operations


def run_operation(
    data_dir: Path | None,
    operation: Callable[[Operations], Awaitable[int]],
    *,
    database: DatabaseUse = "required",
    redis: RedisUse = "required",
) -> NoReturn:
    """Run one operation and exit with the code that it returns.  Raises ApplianceError.

    With ``database`` optional, an operation that needs Redis alone runs while the database is unavailable;
    with ``redis`` optional it is the other way round.
    """
    from app.cli.settings import load_command_settings

    settings, policies = load_command_settings(data_dir)
    with without_collector():
        from app.process.composition import open_appliance

    async def run() -> int:
        async with open_appliance(settings, policies, database=database, redis=redis) as running:
            return await _translate_errors(operation(running.operations))

    raise_on_interrupt()
    raise typer.Exit(asyncio.run(run()))


async def _translate_errors(operation: Awaitable[int]) -> int:
    """Turn the errors of libraries and of the system into ours."""
    from redis.exceptions import RedisError

    try:
        return await operation
    except (ApplianceError, BrokenPipeError):  # a broken pipe is that of standard output
        raise
    except RedisError as error:
        raise _redis_error(error) from None
    except OSError as error:
        raise (explain_shortage(error) or _redis_error(error)) from None


def _redis_error(error: Exception) -> AppError:
    """Return the error about a Redis that refuses, or that answered at first and does not any more."""
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError

    from storage.redis.refusals import explain, refusal_of

    no_answer = (RedisConnectionError, RedisTimeoutError, ConnectionError, TimeoutError)
    if not isinstance(error, no_answer) or refusal_of(error) is not None:
        return AppError(explain(error))
    cause = one_line(error).rstrip(".") if str(error) else "no reply in time"
    return AppError(
        f"Redis does not answer: {cause}", fix="couturecast-tui doctor names the server and what to do"
    )
