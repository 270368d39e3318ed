"""The command line.  Every error is one line on stderr; every command ends with a meaningful exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from app import output
from app.address import Address
from app.cli import commands
from app.cli.cache import cache
from app.cli.dead_letters import failed_jobs
from app.cli.runner import DataDir, Json, act, configured
from app.cli.upstash import upstash
from app.errors import AppError, UsageError, exhausted
from tui.text.format import SMALLEST_TERMINAL, escape
from tui.text.glyphs import TEXT_ERRORS, terminal_encoding

cli = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="CoutureCast's queue appliance: workers for four queues, their dead letters, and a live dashboard.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(failed_jobs, name="failed-jobs")
cli.add_typer(cache, name="cache")
cli.add_typer(upstash, name="upstash")

Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help="Name of a queue, for instance color-extraction.")
]

_ERROR_SECONDS = 5.0
"""Longest wait for a reader of standard error."""
_WRITE_ERRORS = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}


def main() -> NoReturn:
    """Run the command line and end the process; ``app.entry`` is what users call."""
    os.umask(0o077)  # whatever we write is for its owner only
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no dash is no reason to fail
            encoding = terminal_encoding(stream) if stream.isatty() else stream.encoding
            stream.reconfigure(encoding=encoding, errors=TEXT_ERRORS)
    sys.exit(_command())


def _command() -> int:
    """Carry out the command; its exit code."""
    try:
        code = cli(standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return _failed(_wrong_usage(error), getattr(error, "exit_code", 2))
    except AppError as error:
        return _failed(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _failed("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has read enough
        output.discard(sys.stdout)
        return 1
    except OSError as error:
        return _failed(_os_problem(error), 1)
    except SystemExit as end:  # of typer, where a pipe is broken
        output.discard(sys.stdout)
        code = end.code
    return code if isinstance(code, int) else 0


def _wrong_usage(error: TyperException) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    line = " ".join(message.split())
    context = getattr(error, "ctx", None)
    return line if context is None else f"{line.rstrip('.')}: see {context.command_path} --help"


def _failed(message: str, code: int) -> int:
    """A line for each problem; control characters are shown."""
    with suppress(OSError):
        sys.stdout.flush()
    lines = [f"error: {escape(line) or 'failed'}\n" for line in message.split("\n")]
    output.write_within(_ERROR_SECONDS, sys.stderr, "".join(lines))
    output.discard(sys.stdout)
    return code


def _os_problem(error: OSError) -> str:
    """An error that no layer below has explained.  Help and version write to standard output, too."""
    where = f"{error.filename}: " if error.filename else ""
    if not where and error.errno in _WRITE_ERRORS:
        return f"standard output: {error.strerror}"
    return f"{where}{exhausted(error) or error.strerror or error}"


@cli.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    no_ui: Annotated[
        bool, typer.Option("--no-ui", help="Workers only; prints `ready` when it takes jobs.")
    ] = False,
    no_workers: Annotated[
        bool, typer.Option("--no-workers", help="Dashboard only, on the cluster that REDIS_URL names.")
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Feed sample jobs, some of which fail.")] = False,
    queues: Annotated[
        str | None, typer.Option("--queues", help="A subset of the queues to work on.", metavar="A,B")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option("--http", help="Where HTTP is served; 127.0.0.1:8020 without it.", metavar="HOST:PORT"),
    ] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="Serve no HTTP.")] = False,
    data_dir: DataDir = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Workers and dashboard in one process; the commands below act on the same queues and exit."""
    if context.invoked_subcommand is not None:
        if no_ui or no_workers or demo or version or no_http or queues is not None or http is not None:
            raise UsageError(
                f"of the options before {context.invoked_subcommand} only --data-dir is its: drop the others"
            )
        return
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"couturecast-tui {installed('couturecast-tui')}")
        return
    _check_form(no_ui=no_ui, no_workers=no_workers, queues=queues)
    flag = _http_flag(http, no_http=no_http)
    if not no_ui:
        _need_terminal()
    from app.process import run as running

    settings, policies = configured(data_dir, http=flag)
    code = running.run(settings, policies, ui=not no_ui, workers=not no_workers, demo=demo, queues=queues)
    raise typer.Exit(code)


def _check_form(*, no_ui: bool, no_workers: bool, queues: str | None) -> None:
    if no_ui and no_workers:
        raise UsageError("--no-ui and --no-workers leave nothing to run: drop one of them")
    if no_workers and queues is not None:
        raise UsageError("--queues says what workers work on: drop it, or --no-workers")


def _http_flag(text: str | None, *, no_http: bool) -> Address | str | None:
    """What the flags say of HTTP, for the settings; None where they say nothing."""
    if text is None:
        return "none" if no_http else None
    if no_http:
        raise UsageError("--http and --no-http exclude each other: drop one of them")
    try:
        return Address.parse(text)
    except ValueError as error:
        raise UsageError(f"--http: {error}") from None


@cli.command()
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
        str | None, typer.Option("--key", help="SAQ's job key: while it is queued, no other of it is.")
    ] = None,
    delay: Annotated[float, typer.Option("--delay", help="Seconds until it may start.")] = 0.0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Enqueue one job, or one for each line of a file."""
    given = [each for each in (source, data, file) if each is not None]
    if len(given) != 1 or (source is not None and source != "-"):
        raise UsageError("give exactly one of --data JSON, --file FILE and - (standard input)")
    if key is not None and data is None:
        raise UsageError("--key goes with --data: each line of a file would get the same key")
    jobs = commands.read_jobs(data, Path("-") if source else file, key=key, delay=delay)
    act(
        data_dir,
        lambda each: commands.enqueue(each.operations, queue, jobs, as_json=as_json),
        database="optional",
    )


@cli.command()
def status(data_dir: DataDir = None, as_json: Json = False) -> None:
    """One snapshot of all that the overview shows."""
    act(data_dir, lambda each: commands.status(each.operations, as_json=as_json), database="optional")


@cli.command()
def pause(
    queue: Queue,
    reason: Annotated[str, typer.Option("--reason", help="Shown to all who look.", metavar="TEXT")] = "",
    data_dir: DataDir = None,
) -> None:
    """Start nothing of a queue, in any process, until it is resumed."""
    act(data_dir, lambda each: commands.pause(each.operations, queue, reason), database="optional")


@cli.command()
def resume(queue: Queue, data_dir: DataDir = None) -> None:
    """Let a paused queue start jobs again."""
    act(data_dir, lambda each: commands.resume(each.operations, queue), database="optional")


@cli.command()
def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check servers, settings and machine for all that is needed; changes nothing, and says how to mend."""
    sys.dont_write_bytecode = True  # of a handler's module neither
    from app.cli.doctor import doctor as examine

    raise typer.Exit(examine(data_dir, as_json=as_json))


def _need_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):  # it is drawn on stderr
        raise UsageError(
            "the dashboard needs a terminal, for errors too: run with --no-ui for workers without it"
        )
    term = os.environ.get("TERM", "")
    if term in ("dumb", "unknown", ""):
        raise UsageError(
            f"this terminal (TERM={term}) cannot show the dashboard: set TERM, or run with --no-ui"
        )
    size = os.get_terminal_size(sys.stderr.fileno())
    if 0 < size.columns < SMALLEST_TERMINAL[0] or 0 < size.lines < SMALLEST_TERMINAL[1]:
        raise UsageError(
            f"this terminal is {size.columns}x{size.lines}, the dashboard needs "
            f"{SMALLEST_TERMINAL[0]}x{SMALLEST_TERMINAL[1]}: make it larger, or run with --no-ui for workers"
        )
