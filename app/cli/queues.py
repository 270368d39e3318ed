"""``enqueue``, ``pause`` and ``resume``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.arguments import Queue
from app.cli.job_lines import JobLines, open_job_lines
from app.cli.options import DataDir, Json
from app.cli.progress import show_share
from app.cli.runner import run_operation
from app.cli.values import json_object
from app.errors import AppError, UsageError
from tui.text.format import count, escape

if TYPE_CHECKING:
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)


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
    from_line: Annotated[
        int, typer.Option("--from-line", min=1, help="First line of the file to enqueue.", metavar="N")
    ] = 1,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Enqueue one job, or one for each line of a file."""
    sources = [name for name in (source, data, file) if name is not None]
    if len(sources) != 1 or (source is not None and source != "-"):
        raise UsageError("give exactly one of --data JSON, --file FILE and - (standard input)")
    if from_line > 1 and data is not None:
        raise UsageError("--from-line goes with a file")
    if key is not None and data is None:
        raise UsageError("--key goes with --data: each line of a file would get the same key")
    if data is not None:
        one = json_object(data, "--data")
        operation = partial(_enqueue_one, queue=queue, data=one, key=key, delay=delay, as_json=as_json)
        run_operation(data_dir, operation, database="optional")
    with open_job_lines(file or Path("-"), first_line=from_line, delay=delay) as lines:
        many = partial(_enqueue_lines, queue=queue, lines=lines, as_json=as_json)
        run_operation(data_dir, many, database="optional")


async def _enqueue_one(
    operations: Operations, *, queue: str, data: dict[str, Any], key: str | None, delay: float, as_json: bool
) -> int:
    enqueued_key = await operations.queues.enqueue(queue, data, key=key, delay=delay)
    if enqueued_key is None:
        output.print_result(f"0 jobs enqueued on {queue}", {"queue": queue, "keys": [None]}, as_json=as_json)
        output.print_note(f"error: a job with the key {escape(str(key))} is queued already")
        return 1
    output.print_result(escape(enqueued_key), {"queue": queue, "keys": [enqueued_key]}, as_json=as_json)
    return 0


async def _enqueue_lines(operations: Operations, *, queue: str, lines: JobLines, as_json: bool) -> int:
    from redis.exceptions import RedisError, ResponseError

    from storage.errors import ApplianceError
    from storage.redis.refusals import explain
    from workers.errors import InvalidJobError

    keys, enqueued = list[str | None](), 0
    try:
        with show_share(f"enqueueing on {queue}") as show:
            async for batch in operations.queues.enqueue_stream(queue, lines):
                lines.confirm(len(batch))
                enqueued += len(batch)
                if as_json or enqueued == 1:
                    keys += batch
                show(lines.share, f"{count(enqueued)} jobs")
    except (UsageError, InvalidJobError) as error:
        raise UsageError(str(error), fix=f"correct the line: {_go_on(lines, enqueued)}") from None
    except RedisError as error:
        text = str(error) if isinstance(error, ApplianceError) else explain(error)
        more = "" if isinstance(error, ResponseError) else ", and perhaps some more"
        raise AppError(text, fix=_go_on(lines, enqueued, more)) from None
    text = escape(str(keys[0])) if enqueued == 1 else f"{enqueued} jobs enqueued on {queue}"
    output.print_result(text, {"queue": queue, "keys": keys}, as_json=as_json)
    return 0


def _go_on(lines: JobLines, enqueued: int, more: str = "") -> str:
    return f"{count(enqueued)} jobs were enqueued{more}; --from-line {lines.next_line} goes on"


@commands.command()
def pause(
    queue: Queue,
    reason: Annotated[str, typer.Option("--reason", help="Shown on every screen.", metavar="TEXT")] = "",
    data_dir: DataDir = None,
) -> None:
    """Start no job of a queue, in any process, until it is resumed."""

    async def run(operations: Operations) -> int:
        await operations.queues.pause(queue, reason)
        _print_done(f"{queue} is paused: no job of it starts until couturecast-tui resume {queue}")
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command()
def resume(queue: Queue, data_dir: DataDir = None) -> None:
    """Let a paused queue start jobs again."""

    async def run(operations: Operations) -> int:
        was_paused = await operations.queues.resume(queue)
        _print_done(f"{queue} runs again" if was_paused else f"{queue} was not paused")
        return 0

    run_operation(data_dir, run, database="optional")


def _print_done(text: str) -> None:
    output.print_result(text, {}, as_json=False)
