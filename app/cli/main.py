"""The program's commands, and its end: every error is one line on stderr and an exit code.

Imports next to nothing: the module of a command is imported when it is called.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import ClassVar, NoReturn

import typer
from typer.exceptions import TyperException

from app.cli.lazy import LazyGroup
from app.cli.options import (
    Browser,
    DataDir,
    Demo,
    Http,
    NoHttp,
    NoUi,
    NoWorkers,
    Processes,
    Queues,
    Reload,
    UntilEof,
    Version,
)
from app.errors import INTERRUPTED, AppError, UsageError, exit_code_of, explain_shortage
from app.streams import silence, write_within
from storage.errors import ApplianceError
from tui.text.format import escape
from tui.text.glyphs import TEXT_ERRORS, terminal_encoding

_CACHE, _LETTERS, _REPLAYS = "app.cli.cache", "app.cli.dead_letters", "app.cli.replays"
_ALERTS, _QUEUES, _UPSTASH = "app.cli.alerts", "app.cli.queues", "app.cli.upstash"
_CRON, _JOBS = "app.cli.cron", "app.cli.jobs"
_WORKERS = "app.cli.workers"


class Commands(LazyGroup):
    """The commands that belong to no group."""

    members: ClassVar = {
        "enqueue": (_QUEUES, "Enqueue one job, or one for each line of a file."),
        "status": (
            "app.cli.status",
            "All that the overview shows, as tables; --watch repeats it.",
        ),
        "screenshot": (
            "app.cli.screenshot",
            "A picture of a view as it is now, as SVG, without a terminal.",
        ),
        "run": (
            "app.cli.run",
            "Run one job here and now, in the foreground, with its traceback; 1 if it fails.",
        ),
        "pause": (_QUEUES, "Start no job of a queue, in any process, until it is resumed."),
        "resume": (_QUEUES, "Let a paused queue start jobs again."),
        "drain": (
            "app.cli.drain",
            "Drain the process of this data directory, another one, or all; it does not ask.",
        ),
        "events": ("app.cli.events", "Events, the newest first; --follow prints new ones as they happen."),
        "notify-test": (
            "app.cli.notify_test",
            "Send one message to each service of COUTURECAST_NOTIFY_URLS; 1 if one does not take it.",
        ),
        "probe": (
            "app.cli.probe",
            "Ask the process that runs in this data directory; exits with 0 or 1.",
        ),
        "serve": (
            "app.cli.browser",
            "The dashboard in a browser, behind the admin token; read-only unless --writable.",
        ),
        "rules": ("app.cli.prometheus", "Print the Prometheus rules as YAML."),
        "grafana": ("app.cli.prometheus", "Print the Grafana dashboard as JSON, to import or to provision."),
        "doctor": (
            "app.cli.doctor",
            "Check servers, settings and machine, and print how to fix what is wrong; changes nothing.",
        ),
    }


class FailedJobs(LazyGroup):
    """The commands on dead letters and their replays."""

    members: ClassVar = {
        "list": (_LETTERS, "Dead letters, the newest first."),
        "show": (_LETTERS, "One dead letter: payload, lineage, every attempt's traceback."),
        "groups": (_LETTERS, "Failures of one kind together, the most frequent first."),
        "replay": (_REPLAYS, "Enqueue dead letters again: one at once, many by a plan."),
        "plans": (_REPLAYS, "Replays of many letters, the newest first."),
        "plan": (_REPLAYS, "One plan with its ledger, or its letters with the results of their replays."),
        "resume": (_REPLAYS, "Resume a plan that was paused, interrupted or has halted."),
        "pause": (_REPLAYS, "Enqueue no more of a plan until it is resumed."),
        "cancel": (_REPLAYS, "Enqueue no more of a plan, ever: its other letters stay dead."),
        "discard": (_LETTERS, "Hide dead letters; restore undoes it."),
        "restore": (_LETTERS, "Undo a discard: the letters are dead again, and shown."),
        "export": (_LETTERS, "A document of dead letters."),
        "archive": (_LETTERS, "Move old letters into the archive, as a process does daily."),
    }


class Jobs(LazyGroup):
    """The commands on single jobs."""

    members: ClassVar = {
        "list": (
            _JOBS,
            "Jobs by state: those that run, are ready or scheduled; with --state those that ended, too.",
        ),
        "show": (_JOBS, "One job: payload, result, every attempt's error, and why it does not run."),
        "alike": (
            _JOBS,
            "Running jobs that stand at the same line: how many, where, on which workers, in which slots.",
        ),
        "why": (_JOBS, "Why a job does not run, or why a queue starts nothing more, in one sentence."),
        "abort": (
            _JOBS,
            "End jobs that wait as aborted, and cancel those that run; 1 if one of them cannot be.",
        ),
        "run-now": (
            _JOBS,
            "Put jobs that wait, also for their time, at the head of the queue; 1 if one of them cannot be.",
        ),
        "duplicate": (
            _JOBS,
            "Enqueue the same function and payload under a new key; 1 if one of them cannot be.",
        ),
        "remove": (
            _JOBS,
            "Remove jobs that wait or have ended, for good, never one that runs; 1 if one of them cannot be.",
        ),
    }


class Cron(LazyGroup):
    """The commands on schedules."""

    members: ClassVar = {
        "list": (_CRON, "Schedules with next, last and missed runs, and who disabled them."),
        "run": (_CRON, "Enqueue the jobs of a schedule now; its own runs come as before."),
        "enable": (_CRON, "Let a schedule run again, in every process, from its next occurrence on."),
        "disable": (_CRON, "Let a schedule enqueue nothing, in any process, until it is enabled."),
    }


class Cache(LazyGroup):
    """The commands on the cache."""

    members: ClassVar = {
        "list": (_CACHE, "Entries with state, age, TTL and size, in no order."),
        "get": (_CACHE, "One entry with its value; 1 if it does not exist."),
        "evict": (
            _CACHE,
            "Evict entries by key or pattern, after the count was shown; 1 if a named one does not exist.",
        ),
        "evict-user": (
            _CACHE,
            "Evict all entries of a user, after the count was shown, and those that are being loaded.",
        ),
        "stats": (_CACHE, "Hit rate of the last hour, how reads ended, memory, evictions by the server."),
    }


class Alerts(LazyGroup):
    """The commands on alerts."""

    members: ClassVar = {
        "list": (
            _ALERTS,
            "Alerts that are pending, fire, are acknowledged or silenced, the worst first; the silences.",
        ),
        "ack": (
            _ALERTS,
            "Mark alerts that fire as seen, until they are resolved; 1 if none of that name fires.",
        ),
        "silence": (_ALERTS, "For a time, let alerts notify nobody and not count in the health."),
        "unsilence": (_ALERTS, "End the silences of exactly this alert and queue."),
        "history": (_ALERTS, "Alerts that fired, the newest first, with how long each lasted."),
    }


class Workers(LazyGroup):
    """The commands on worker processes."""

    members: ClassVar = {
        "list": (
            _WORKERS,
            "Every process of the cluster: jobs, CPU, memory, event loop, and whether it takes jobs.",
        ),
        "logs": (_WORKERS, "The newest lines of a process' log, the oldest of them first."),
        "drain": (_WORKERS, "Let processes finish what runs, and end; --undo lets one take jobs again."),
    }


class Handlers(LazyGroup):
    """The commands on a team's own handlers."""

    members: ClassVar = {
        "check": (
            "app.cli.handlers",
            "Import the functions of COUTURECAST_HANDLERS where they will run; 1 if one cannot be used.",
        ),
        "package": (
            "app.cli.handlers",
            "Print the folder of couturecast_handlers, for a copy beside a team's own tests.",
        ),
    }


class Upstash(LazyGroup):
    """The commands on the databases at Upstash."""

    members: ClassVar = {
        "plan": (_UPSTASH, "Print the changes that apply would make, and make none."),
        "apply": (_UPSTASH, "Make what is missing and change what differs, after showing it."),
        "status": (_UPSTASH, "Each database, its state and its address; without passwords."),
        "env": (
            _UPSTASH,
            "Write REDIS_URL, and CACHE_REDIS_URL if it has one, with their passwords, into a file.",
        ),
    }


cli = typer.Typer(
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="CoutureCast's queue appliance: workers for four queues, their dead letters, and a live dashboard.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _commands, _help in (
    (
        "failed-jobs",
        FailedJobs,
        "Dead letters: list, show, group, replay by plan, discard, export, archive.  Nothing is deleted.",
    ),
    ("jobs", Jobs, "Single jobs: list, show, why one does not run; abort, run now, duplicate, remove."),
    ("cron", Cron, "Schedules: list, run now, disable and enable, for the whole cluster."),
    ("alerts", Alerts, "Alerts: what is wrong now, what was, and how to acknowledge or silence it."),
    ("cache", Cache, "The cache of what users are shown: its entries, its figures, and how to evict some."),
    (
        "workers",
        Workers,
        "Worker processes: list them, read the log of one, and drain any of them.",
    ),
    ("handlers", Handlers, "A team's own handlers: check that each can be imported."),
    (
        "upstash",
        Upstash,
        "The databases at Upstash: make them as docs/upstash.md describes.  None is ever deleted.",
    ),
):
    cli.add_typer(typer.Typer(cls=_commands), name=_name, help=_help)

_ERROR_SECONDS = 5.0
"""Timeout of writing an error to a reader that does not read."""
_WRITE_ERRORS = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}


def main() -> NoReturn:
    """Run the command line and end the process; ``app.entry`` is what users call."""
    os.umask(0o077)  # whatever we write is for its owner only
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # some encodings have no dash
            encoding = terminal_encoding(stream) if stream.isatty() else stream.encoding
            stream.reconfigure(encoding=encoding, errors=TEXT_ERRORS)
    sys.exit(_command())


def _command() -> int:
    """Run the command; its exit code."""
    try:
        code = cli(standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return _fail(_usage_message(error), getattr(error, "exit_code", 2))
    except AppError as error:
        return _fail(str(error), exit_code_of(error))
    except ApplianceError as error:  # from below, in one line whatever it quotes
        return _fail(escape(str(error)), exit_code_of(error))
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader has read enough
        silence(sys.stdout)
        return 1
    except OSError as error:
        return _fail(_os_problem(error), 1)
    except SystemExit as end:  # of typer: a broken pipe, or the end of a completion
        silence(sys.stdout)
        code = end.code
    return code if isinstance(code, int) else 0


def _usage_message(error: TyperException) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    line = " ".join(message.split())
    context = getattr(error, "ctx", None)
    return line if context is None else f"{line.rstrip('.')}: see {context.command_path} --help"


def _fail(message: str, code: int) -> int:
    """Print an error for each line of ``message``, with control characters escaped; returns ``code``."""
    with suppress(OSError):
        sys.stdout.flush()
    lines = [f"error: {escape(line) or 'failed'}\n" for line in message.split("\n")]
    write_within(_ERROR_SECONDS, sys.stderr, "".join(lines))
    silence(sys.stdout)
    return code


def _os_problem(error: OSError) -> str:
    """Describe an error that no layer below has explained.  Help and version, too, write to stdout."""
    file = f"{error.filename}: " if error.filename else ""
    if not file and error.errno in _WRITE_ERRORS:
        return f"standard output: {error.strerror}"
    return f"{file}{explain_shortage(error) or error.strerror or error}"


@cli.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    no_ui: NoUi = False,
    no_workers: NoWorkers = False,
    demo: Demo = False,
    queues: Queues = None,
    http: Http = None,
    no_http: NoHttp = False,
    reload: Reload = False,
    processes: Processes = None,
    until_eof: UntilEof = False,
    browser: Browser = None,
    data_dir: DataDir = None,
    version: Version = False,
) -> None:
    """Workers and dashboard in one process; the commands below act on the same queues and exit."""
    if (command := context.invoked_subcommand) is not None:
        unfit_options = (no_ui, no_workers, demo, version, no_http, reload)
        if any(unfit_options) or any(option is not None for option in (queues, http, processes)):
            raise UsageError(f"only --data-dir may stand before {command}: remove the other options")
        return
    if version:
        _print_version()
        return
    from app.imports import without_collector

    with without_collector():
        from app.cli.serve import serve

    code = serve(
        no_ui=no_ui,
        no_workers=no_workers,
        demo=demo,
        queues=queues,
        http=http,
        no_http=no_http,
        reload=reload,
        processes=processes,
        until_eof=until_eof,
        browser=browser,
        data_dir=data_dir,
    )
    raise typer.Exit(code)


def _print_version() -> None:
    from importlib.metadata import version

    typer.echo(f"couturecast-tui {version('couturecast-tui')}")
