"""``enqueue``, ``pause`` and ``resume``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.completion import complete_queue
from app.cli.options import DataDir, Json
from app.cli.progress import enqueue_with_progress
from app.cli.runner import run_operation
from app.cli.values import json_object
from app.errors import UsageError
from tui.text.format import escape

if TYPE_CHECKING:
    from workers.operations.operations import NewJob, Operations

commands = typer.Typer(rich_markup_mode=None)

Queue = Annotated[
    str,
    typer.Argument(
        metavar="QUEUE",
        help="Name of a queue, for instance color-extraction.",
        autocompletion=complete_queue,
    ),
]


@commands.command()
def enqueue(
    queue: Queue,
    source: Annotated[
        str | None, typer.Argument(metavar="[-]", help="- reads one JSON object a line from standard input.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="The job's arguments.", metavar="JSON")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="One JSON object a line; - is standard input.", metavar="F")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="SAQ's job key: refused while a job with this key is queued.")
    ] = None,
    delay: Annotated[float, typer.Option("--delay", help="Seconds until it may start.")] = 0.0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Enqueue one job, or one for each line of a file."""
    sources = [name for name in (source, data, file) if name is not None]
    if len(sources) != 1 or (source is not None and source != "-"):
        raise UsageError("give exactly one of --data JSON, --file FILE and - (standard input)")
    if key is not None and data is None:
        raise UsageError("--key goes with --data: each line of a file would get the same key")
    jobs = _parse_jobs(data, file or Path("-"), key=key, delay=delay)
    run_operation(
        data_dir,
        lambda operations: _enqueue(operations, queue, jobs, as_json=as_json),
        database="optional",
    )


def _parse_jobs(data: str | None, file: Path, *, key: str | None, delay: float) -> list[NewJob]:
    from workers.operations.operations import NewJob

    if data is not None:
        return [NewJob(json_object(data, "--data"), key, delay)]
    return [NewJob(arguments, None, delay, source) for source, arguments in _objects(file)]


def _objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a file of one a line, each with the name of its line.  Raises UsageError."""
    name = "standard input" if str(file) == "-" else str(file)
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}", field="--file") from None
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line.strip():
            source = f"{name}, line {number}"
            yield source, json_object(line, source)


async def _enqueue(operations: Operations, queue: str, jobs: Sequence[NewJob], *, as_json: bool) -> int:
    keys = await enqueue_with_progress(operations, queue, jobs)
    duplicates = [job.key for job, key in zip(jobs, keys, strict=True) if key is None]
    one_key = keys[0] if len(keys) == 1 else None
    text = escape(one_key) if one_key else f"{len(keys) - len(duplicates)} jobs enqueued on {queue}"
    output.print_result(text, {"queue": queue, "keys": keys}, as_json=as_json)
    for key in duplicates:
        output.print_note(f"error: a job with the key {escape(str(key))} is queued already")
    return 1 if duplicates else 0


@commands.command()
def pause(
    queue: Queue,
    reason: Annotated[str, typer.Option("--reason", help="Shown on every screen.", metavar="TEXT")] = "",
    data_dir: DataDir = None,
) -> None:
    """Start no job of a queue, in any process, until it is resumed."""

    async def run(operations: Operations) -> int:
        await operations.pause(queue, reason)
        _print_done(f"{queue} is paused: no job of it starts until couturecast-tui resume {queue}")
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command()
def resume(queue: Queue, data_dir: DataDir = None) -> None:
    """Let a paused queue start jobs again."""

    async def run(operations: Operations) -> int:
        was_paused = await operations.resume(queue)
        _print_done(f"{queue} runs again" if was_paused else f"{queue} was not paused")
        return 0

    run_operation(data_dir, run, database="optional")


def _print_done(text: str) -> None:
    output.print_result(text, {}, as_json=False)
