"""``doctor``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import replace

import typer

from app import logs
from app.cli import output
from app.cli.options import DataDir, Json
from app.cli.render.doctor import findings_text
from app.cli.render.tables import terminal_width
from app.doctor.checks.settings import LoadedSettings
from app.doctor.checks.settings import load_settings as load_for_checks
from app.doctor.redaction import known_secrets, mask_passwords, set_secrets
from app.doctor.results import CheckResult, count_in_state
from app.errors import AppError
from app.process.exit import exit_now, tasks_remain
from app.process.interrupts import raise_on_interrupt
from tui.text.format import escape

commands = typer.Typer(rich_markup_mode=None)

_THREADS_END_SECONDS = 0.2


@commands.command()
def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check servers, settings and machine, and print how to fix what is wrong; changes nothing."""
    sys.dont_write_bytecode = True  # not of a handler's module either
    logs.configure("error")
    logging.disable(logging.CRITICAL)  # every problem is one of the findings
    set_secrets(known_secrets())
    config = load_for_checks(data_dir=data_dir)
    raise_on_interrupt()
    with asyncio.Runner() as runner:
        code, error = 1, ""
        try:
            code = _check_and_print(runner, config, as_json=as_json)
        except KeyboardInterrupt:
            code, error = 130, "interrupted"
            raise
        except AppError as refused:
            error = str(refused)
            raise
        finally:
            if runner.run(tasks_remain(_THREADS_END_SECONDS)):
                if error:
                    output.print_note(f"error: {escape(error)}")
                # The interpreter would wait for a name server or a disk that does not answer.
                exit_now(code, flush=False)
    raise typer.Exit(code)


def _check_and_print(runner: asyncio.Runner, config: LoadedSettings, *, as_json: bool) -> int:
    """Run the checks and print the results; return 1 if something is wrong."""
    stdout = sys.stdout
    try:
        items = runner.run(_examine(config))
    finally:
        sys.stdout = stdout  # a module that hangs while it is imported still has it redirected
    _print(items, as_json=as_json)
    return 1 if count_in_state("wrong", items) else 0


async def _examine(config: LoadedSettings) -> list[CheckResult]:
    from app.doctor.runner import run_checks  # its checks import whatever they check

    return [_mask_passwords(result) for result in await run_checks(config)]


def _mask_passwords(result: CheckResult) -> CheckResult:
    return replace(result, finding=replace(result.finding, text=mask_passwords(result.finding.text)))


def _print(items: list[CheckResult], *, as_json: bool) -> None:
    if as_json:
        documents = [item.document() for item in items]
        wrong, warnings = (count_in_state(state, items) for state in ("wrong", "warning"))
        output.print_json({"items": documents, "wrong": wrong, "warnings": warnings})
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = findings_text(items, width=terminal_width(), colour=colour, encoding=sys.stdout.encoding)
    output.write(f"{text}\n")
