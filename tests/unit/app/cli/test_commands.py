"""The commands as a whole: what their groups list, and what a help imports."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_group

from app.cli.filter_options import OPTIONS
from app.cli.lazy import LazyGroup
from app.cli.main import Alerts, Cache, Commands, Cron, FailedJobs, Jobs, Upstash, Workers
from app.errors import AppError, CommandInterruptedError, UsageError, exit_code_of
from storage.dead_letters.filters import LetterFilter
from workers.errors import NotFoundError, UnknownQueueError

ENGINE = (
    *("workers.engine", "workers.dead_letters", "workers.handlers", "workers.monitoring", "workers.process"),
    *("workers.operations", "storage.dead_letters"),
)
HEAVY = {"sqlalchemy", "redis", "saq", "httpx", "structlog", "starlette", "numpy"}
LISTED = """
import runpy, sys
sys.argv = ["couturecast-tui", *sys.argv[1:]]
try:
    from app.cli.main import main
    main()
except SystemExit:
    print("imported:", *sorted(set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("group", [Commands, FailedJobs, Jobs, Cron, Alerts, Cache, Workers, Upstash])
def test_each_listed_command_exists_and_begins_its_help_with_its_summary(group: type[LazyGroup]) -> None:
    for name, (module, summary) in group.members.items():
        command = get_group(import_module(module).commands).commands[name]
        first, _, _ = (command.help or "").partition("\n\n")
        assert " ".join(first.split()) == summary, name


def test_each_command_of_a_module_is_listed() -> None:
    listed: dict[str, set[str]] = {}
    for group in (Commands, FailedJobs, Jobs, Cron, Alerts, Cache, Workers, Upstash):
        for name, (module, _) in group.members.items():
            listed.setdefault(module, set()).add(name)
    for module, names in listed.items():
        assert set(get_group(import_module(module).commands).commands) == names


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("failed-jobs", "--help"),
        ("alerts", "--help"),
        ("cache", "--help"),
        ("jobs", "--help"),
        ("cron", "--help"),
    ],
)
def test_the_help_of_a_group_does_not_import_the_engine(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTED, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Usage: couturecast-tui ")
    imported = set(done.stderr.partition("imported:")[2].split())
    assert "app.cli.main" in imported
    assert not HEAVY & imported
    assert not {module for module in imported if module.startswith(ENGINE)}


def test_the_probe_of_a_container_imports_not_even_the_command_line(tmp_path: Path) -> None:
    program = LISTED.replace("app.cli.main", "app.entry")
    environment = {"COUTURECAST_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program, "probe", "ready"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert "error: not ready: no process runs in" in done.stderr
    imported = set(done.stderr.partition("imported:")[2].split())
    assert "app.probe" in imported
    assert not (HEAVY | {"typer", "asyncio", "pydantic", "http.client", "rich"}) & imported
    assert not {module for module in imported if module.startswith(ENGINE)}


def test_each_condition_of_a_filter_is_an_option() -> None:
    assert {*OPTIONS, "up_to"} == set(LetterFilter.model_fields)


def test_the_exit_code_of_an_error_is_that_of_its_kind() -> None:
    assert exit_code_of(UsageError("wrong")) == 2
    assert exit_code_of(UnknownQueueError("x", ("y",))) == 2
    assert exit_code_of(NotFoundError("no entry")) == 1
    assert exit_code_of(AppError("failed")) == 1
    assert exit_code_of(CommandInterruptedError("interrupted")) == 130
    assert exit_code_of(CommandInterruptedError("interrupted", exit_code=143)) == 143
