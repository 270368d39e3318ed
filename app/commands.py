"""What the commands do and print, on the operations object."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import AppError, UsageError
from tui.format import safe, safe_lines

if TYPE_CHECKING:
    from workers.operations import DeadLetter, NewJob, Operations


async def told(verb: Awaitable[int]) -> int:
    """Await a verb; what the layers below raise becomes an error of one line."""
    from redis.exceptions import RedisError

    from storage.errors import InvalidCursorError, InvalidFilterError, StorageError
    from workers.errors import InvalidJobError, NotFoundError, UnknownQueueError, WorkersError

    try:
        return await verb
    except (UnknownQueueError, InvalidJobError, InvalidCursorError, InvalidFilterError) as error:
        raise UsageError(safe(str(error))) from None
    except (NotFoundError, WorkersError, StorageError) as error:
        raise AppError(safe(str(error))) from None
    except BrokenPipeError:  # of standard output
        raise
    except (RedisError, OSError) as error:
        raise AppError(f"Redis: {' '.join(str(error).split())}") from None


def read_jobs(data: str | None, file: Path | None, *, key: str | None, delay: float) -> list[NewJob]:
    """The jobs that ``--data``, or a file of one object a line, describe.  Raises UsageError."""
    from workers.operations import NewJob

    if data is not None:
        return [NewJob(_object(data, "--data"), key, delay)]
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
            try:
                yield where, _object(line.decode(), where)
            except UnicodeDecodeError:
                raise UsageError(f"{where}: not UTF-8") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except ValueError as error:
        raise UsageError(f"{where}: {str(error).partition(';')[0]}") from None
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply") from None
    if not isinstance(value, dict):
        raise UsageError(f'{where}: a JSON object is needed, for instance {{"item_id": "dress-17"}}')
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"not JSON: {name} is no number")


async def enqueue(operations: Operations, queue: str, jobs: Sequence[NewJob], *, as_json: bool) -> int:
    """Enqueue, and say which key each job has; 1 where a key was queued already."""
    keys = await operations.enqueue_many(queue, jobs)
    refused = [job.key for job, key in zip(jobs, keys, strict=True) if key is None]
    if as_json:
        _print_json({"queue": queue, "keys": keys})
    elif len(keys) == 1 and keys[0] is not None:
        _print(safe(keys[0]))
    else:
        _print(f"{len(keys) - len(refused)} jobs enqueued on {queue}")
    for key in refused:
        sys.stderr.write(f"error: a job with the key {safe(str(key))} is queued already\n")
    return 1 if refused else 0


async def status(operations: Operations, *, as_json: bool) -> int:
    """Print one snapshot; 1 where a server is away."""
    await operations.ping()
    snapshot = await operations.snapshot()
    if as_json:
        _print_json(asdict(snapshot))
    else:
        from app.report import status_text

        _print(status_text(snapshot))
    return 0 if snapshot.redis.error is None and snapshot.database.error is None else 1


async def pause(operations: Operations, queue: str, reason: str) -> int:
    """Pause a queue."""
    await operations.pause(queue, reason)
    _print(f"{queue} is paused: nothing of it starts until couturecast-tui resume {queue}")
    return 0


async def resume(operations: Operations, queue: str) -> int:
    """Resume a queue."""
    done = await operations.resume(queue)
    _print(f"{queue} runs again" if done else f"{queue} was not paused")
    return 0


async def list_letters(
    operations: Operations,
    *,
    queue: str | None,
    state: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> int:
    """Print a page of dead letters."""
    from workers.operations import Filter

    wanted = Filter.of(queue=queue, state=state or "all")
    page = await operations.letters.page(wanted, limit=limit, cursor=cursor)
    if as_json:
        _print_json({"items": [_fields(each) for each in page.items], "next": page.next})
        return 0
    from app.report import letters_text

    _print(letters_text(page.items))
    if page.next is not None:
        sys.stderr.write(f"more: --cursor {page.next}\n")
    return 0


async def show_letter(operations: Operations, letter_id: int, *, as_json: bool) -> int:
    """Print one dead letter."""
    letter = await operations.letters.get(letter_id)
    if as_json:
        _print_json(_fields(letter))
    else:
        from app.report import letter_text

        _print(letter_text(letter))
    return 0


async def replay(operations: Operations, letter_ids: Sequence[int], *, as_json: bool) -> int:
    """Replay letters, each for itself; 1 where one could not be."""
    from workers.operations import FAILURES

    done: list[dict[str, Any]] = []
    failed = 0
    for letter_id in letter_ids:
        try:
            job_id = await operations.letters.replay(letter_id)
        except FAILURES as error:  # said at once: what came before it is done
            failed += 1
            done.append({"id": letter_id, "job_id": None, "error": str(error)})
            sys.stderr.write(f"error: {safe(str(error))}\n")
            continue
        done.append({"id": letter_id, "job_id": job_id, "error": None})
        if not as_json:
            _print(f"{letter_id} replayed as job {safe(job_id)}")
    if as_json:
        _print_json({"items": done, "next": None})
    return 1 if failed else 0


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(letter).items()
    }


def _print_json(value: Any) -> None:
    _write(json.dumps(value, indent=2, default=str))


def _print(text: str) -> None:
    """Text may come from jobs: control characters are shown, not sent to the terminal."""
    _write(safe_lines(text))


def _write(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AppError(f"standard output: {error.strerror}") from None
