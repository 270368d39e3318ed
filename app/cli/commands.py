"""What the commands do and print, on the operations object."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import output
from app.errors import AppError, UsageError, exhausted
from tui.text.format import escape

if TYPE_CHECKING:
    from workers.operations.operations import NewJob, Operations


async def told(verb: Awaitable[int]) -> int:
    """Await a verb; what the layers below raise becomes an error of one line."""
    from redis.exceptions import RedisError

    from storage.errors import ApplianceError, Kind
    from storage.redis.refusals import explain

    try:
        return await verb
    except AppError:
        raise
    except ApplianceError as error:
        kind = UsageError if error.kind is Kind.USAGE else AppError
        raise kind(escape(str(error))) from None
    except BrokenPipeError:  # of standard output
        raise
    except (RedisError, OSError) as error:
        if isinstance(error, OSError) and (problem := exhausted(error)) is not None:
            raise AppError(problem) from None
        raise AppError(escape(explain(error))) from None


def read_jobs(data: str | None, file: Path | None, *, key: str | None, delay: float) -> list[NewJob]:
    """The jobs that ``--data``, or a file of one object a line, describe.  Raises UsageError."""
    from workers.operations.operations import NewJob

    if data is not None:
        return [NewJob(json_object(data, "--data"), key, delay)]
    assert file is not None  # noqa: S101 - the caller's choice of exactly one
    return [NewJob(each, None, delay, where) for where, each in _lines(file)]


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each object stands, and the object."""
    name = "standard input" if str(file) == "-" else str(file)
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UsageError(f"--file: {name}: {error.strerror}") from None
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.strip():
            where = f"{name}, line {number}"
            yield where, json_object(line, where)


def json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The object that a text is.  Raises UsageError, which begins with ``where``."""
    from workers.engine.json_input import parse_object
    from workers.errors import InvalidJsonError

    try:
        return parse_object(text)
    except InvalidJsonError as error:
        raise UsageError(f"{where}: {error}") from None


async def enqueue(operations: Operations, queue: str, jobs: Sequence[NewJob], *, as_json: bool) -> int:
    """Enqueue, and say which key each job has; 1 where a key was queued already."""
    keys = await operations.enqueue_many(queue, jobs)
    refused = [job.key for job, key in zip(jobs, keys, strict=True) if key is None]
    with output.receipt():
        if as_json:
            output.document({"queue": queue, "keys": keys})
        elif len(keys) == 1 and keys[0] is not None:
            output.text(escape(keys[0]))
        else:
            output.text(f"{len(keys) - len(refused)} jobs enqueued on {queue}")
    for key in refused:
        output.note(f"error: a job with the key {escape(str(key))} is queued already")
    return 1 if refused else 0


async def status(operations: Operations, *, as_json: bool) -> int:
    """Print one snapshot; 1 where a server is away."""
    await operations.ping()
    snapshot = await operations.snapshot()
    if as_json:
        output.document(asdict(snapshot))
    else:
        from app.cli.render.status import status_text

        output.text(status_text(snapshot))
    return 0 if snapshot.redis.error is None and snapshot.database.error is None else 1


async def pause(operations: Operations, queue: str, reason: str) -> int:
    """Pause a queue."""
    await operations.pause(queue, reason)
    with output.receipt():
        output.text(f"{queue} is paused: nothing of it starts until couturecast-tui resume {queue}")
    return 0


async def resume(operations: Operations, queue: str) -> int:
    """Resume a queue."""
    done = await operations.resume(queue)
    with output.receipt():
        output.text(f"{queue} runs again" if done else f"{queue} was not paused")
    return 0
