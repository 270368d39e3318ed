"""``couturecast-tui doctor``."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from app import logs, output
from app.cli.render.doctor import findings_text
from app.doctor.checks.settings import LoadedSettings, load_settings
from app.doctor.redaction import known_secrets, mask_passwords, set_secrets
from app.doctor.results import CheckResult, count_in_state
from app.errors import AppError
from app.process.exit import exit_now, tasks_remain
from app.process.interrupts import raise_on_interrupt
from tui.text.format import safe

_THREADS_END_SECONDS = 0.2


def doctor(data_dir: Path | None, *, as_json: bool) -> int:
    """Check everything and print it; return 1 if something is wrong.  Raises AppError."""
    logs.configure("error")
    logging.disable(logging.CRITICAL)  # every problem is one of the findings
    set_secrets(known_secrets())
    config = load_settings(data_dir=data_dir)
    raise_on_interrupt()
    with asyncio.Runner() as runner:
        code, error = 1, ""
        try:
            code = _run_and_print(runner, config, as_json=as_json)
        except KeyboardInterrupt:
            code, error = 130, "interrupted"
            raise
        except AppError as refused:
            error = str(refused)
            raise
        finally:
            if runner.run(tasks_remain(_THREADS_END_SECONDS)):
                if error:
                    output.note(f"error: {safe(error)}")
                # The interpreter would wait for a name server or a disk that does not answer.
                exit_now(code, flush=False)
    return code


def _run_and_print(runner: asyncio.Runner, config: LoadedSettings, *, as_json: bool) -> int:
    stdout = sys.stdout
    try:
        results = runner.run(_run_checks(config))
    finally:
        sys.stdout = stdout  # a module that hangs while it is imported still has it redirected
    _print(results, as_json=as_json)
    return 1 if count_in_state("wrong", results) else 0


async def _run_checks(config: LoadedSettings) -> list[CheckResult]:
    from app.doctor.runner import run_checks

    return [_mask_passwords(result) for result in await run_checks(config)]


def _mask_passwords(result: CheckResult) -> CheckResult:
    return replace(result, finding=replace(result.finding, text=mask_passwords(result.finding.text)))


def _print(results: list[CheckResult], *, as_json: bool) -> None:
    if as_json:
        documents = [result.document() for result in results]
        output.document(
            {
                "items": documents,
                "wrong": count_in_state("wrong", results),
                "warnings": count_in_state("warning", results),
            }
        )
        return
    terminal = sys.stdout.isatty()
    text = findings_text(
        results,
        width=shutil.get_terminal_size().columns if terminal else None,
        colour=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        encoding=sys.stdout.encoding,
    )
    output.piece(f"{text}\n")
