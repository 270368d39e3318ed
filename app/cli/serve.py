"""The long-running forms of the program: workers, and the dashboard."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from app.address import Address
from app.cli.settings import load_settings
from app.errors import UsageError
from app.process.run import run
from app.terminal import terminal_problem


def serve(
    *,
    no_ui: bool,
    no_workers: bool,
    demo: bool,
    queues: str | None,
    http: str | None,
    no_http: bool,
    reload: bool,
    processes: int | None,
    until_eof: bool,
    browser: str | None,
    data_dir: Path | None,
) -> int:
    """Run until drained or quit; the exit code.  ``browser``: address of the one that shows the dashboard.

    Raises AppError.
    """
    _check_combination(no_ui=no_ui, no_workers=no_workers, queues=queues, reload=reload)
    if processes is not None and (no_workers or demo):
        raise UsageError("--processes starts workers: drop it, or --no-workers and --demo")
    address = parse_http_option(http, no_http=no_http)
    if not no_ui:
        _require_terminal()
    settings, policies = load_settings(data_dir, http=address)
    workers = not no_workers
    return run(
        settings,
        policies,
        ui=not no_ui,
        workers=workers,
        demo=demo,
        queues=queues,
        reload=reload,
        processes=processes,
        until_eof=until_eof,
        browser=browser,
    )


def _check_combination(*, no_ui: bool, no_workers: bool, queues: str | None, reload: bool) -> None:
    if no_ui and no_workers:
        raise UsageError("--no-ui and --no-workers leave nothing to run: drop one of them")
    if no_workers and queues is not None:
        raise UsageError("--queues names the queues of workers: drop it, or --no-workers")
    if no_workers and reload:
        raise UsageError("--reload replaces the handlers of workers: drop it, or --no-workers")


def parse_http_option(text: str | None, *, no_http: bool) -> Address | str | None:
    """Return the options for HTTP as a setting, None if there are none.  Raises UsageError."""
    if text is None:
        return "none" if no_http else None
    if no_http:
        raise UsageError("--http and --no-http exclude each other: drop one of them")
    try:
        return Address.parse(text)
    except ValueError as error:
        raise UsageError(str(error), field="--http") from None


def _require_terminal() -> None:
    """Raises UsageError unless the dashboard can be shown; it is drawn on standard error."""
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "the dashboard needs a terminal, for errors too: run with --no-ui for workers without it"
        )
    size = os.get_terminal_size(sys.stderr.fileno())
    problem = terminal_problem(os.environ, (size.columns, size.lines))
    if problem is not None:
        raise problem
