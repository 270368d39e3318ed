"""A team's handlers in processes of their own: in the team's environment, beside packages named as ours."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import Headless, Program
from tests.support.waiting import eventually

COLOR = "color-extraction"
SHOP = """
import asyncio, os, sys, time
import app.settings, pydantic, storage, tui, workers
from couturecast_handlers import PermanentError


held = []

async def work(ctx, what="good"):
    if what == "die":
        os._exit(9)
    if what == "block":
        time.sleep(600)
    if what == "slow":
        print("begins", flush=True)
        await asyncio.sleep(600)
    if what == "allocate":
        held.append(bytearray(b"x" * 200_000_000))
    if what == "permanent":
        raise PermanentError("no such cloth")
    await ctx["job"].update(progress=0.5)
    await asyncio.sleep(0.2)
    return [app.settings.NAME, pydantic.VERSION, sys.prefix, ctx["job"].attempts]
"""


@pytest.fixture
def shop(program: Program, tmp_path: Path) -> Path:
    """A project whose packages have our names, another pydantic, and an environment of its own."""
    project = tmp_path / "shop"
    for package in ("app", "workers", "storage", "tui"):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text("")
    (project / "app" / "settings.py").write_text("NAME = 'the shop'\n")
    (project / "pydantic.py").write_text("VERSION = '1.0'\n")
    (project / "colors.py").write_text(SHOP)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    program.environment |= {
        "COUTURECAST_HANDLERS": f"{COLOR}=colors:work",
        "COUTURECAST_HANDLERS_PATH": str(project),
        "COUTURECAST_HANDLERS_PYTHON": str(tmp_path / "venv" / "bin" / "python"),
        "COUTURECAST_COLOR_EXTRACTION_RUN": "process",
        "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
    }
    return project


def enqueue(program: Program, what: str, key: str) -> None:
    done = program.run("enqueue", COLOR, "--data", json.dumps({"what": what}), "--key", key)
    assert done.code == 0, done.err


async def result(program: Program, key: str) -> object:
    """Return the result of a completed job."""
    job: dict[str, object] = {}

    def completed() -> bool:
        nonlocal job
        job = program.run("jobs", "show", COLOR, key, "--json").json
        return job.get("state") == "done"

    await eventually(completed, what=f"{key} completes")
    return job["result"]


async def letters(program: Program, count: int) -> dict[str, str]:
    """The error of each dead letter by its job."""
    found: list[dict[str, str]] = []

    def recorded() -> bool:
        nonlocal found
        found = program.run("failed-jobs", "list", "--json").json["items"]
        return len(found) == count

    await eventually(recorded, what=f"{count} dead letters")
    return {letter["job_id"]: letter["error_message"] for letter in found}


async def test_a_project_with_packages_named_as_ours_runs_in_its_own_environment(
    program: Program, shop: Path, tmp_path: Path
) -> None:
    started = await program.start()
    enqueue(program, "good", "dress-1")
    assert await result(program, "dress-1") == ["the shop", "1.0", str(tmp_path / "venv"), 1]
    enqueue(program, "permanent", "dress-2")
    assert await letters(program, 1) == {"dress-2": "no such cloth"}
    assert await started.stop() == 0


async def test_a_job_that_ends_its_process_is_charged_and_the_others_complete(
    program: Program, shop: Path
) -> None:
    started = await program.start()
    for number in range(4):
        enqueue(program, "good", f"good-{number}")
    enqueue(program, "die", "odd")
    for number in range(4):
        assert (await result(program, f"good-{number}"))[3] == 1  # type: ignore[index]
    assert await letters(program, 1) == {"odd": "its process ended with exit code 9"}
    assert await started.stop() == 0


async def test_one_that_blocks_is_ended_at_its_timeout_and_the_process_is_replaced(
    program: Program, shop: Path
) -> None:
    started = await program.start(COUTURECAST_COLOR_EXTRACTION_TIMEOUT="2")
    enqueue(program, "block", "odd")
    errors = await letters(program, 1)
    assert errors["odd"] == "ran longer than the 2 s that color-extraction allows"
    enqueue(program, "good", "dress-1")
    await result(program, "dress-1")
    assert program.run("status", "--json").code == 0
    assert await started.stop() == 0


@pytest.mark.slow
async def test_a_drain_requeues_what_runs_uncharged(program: Program, shop: Path) -> None:
    started: Headless = await program.start(COUTURECAST_DRAIN_SECONDS="0.5")
    enqueue(program, "slow", "dress-1")
    await eventually(lambda: any(line["event"] == "begins" for line in started.logged), what="it begins")
    started.signal(signal.SIGTERM)
    assert await started.ended() == 3
    status = program.run("status", "--json").json
    assert status["queues"][2]["depth"] == 1


async def test_what_cannot_be_imported_ends_the_start_with_one_line(program: Program, shop: Path) -> None:
    (shop / "colors.py").write_text("import nowhere\n")
    done = program.run("--no-ui")
    assert done.code == 2
    (line,) = done.err.strip().splitlines()[-1:]
    assert "COUTURECAST_HANDLERS: 'colors:work' cannot be imported: ModuleNotFoundError: No module" in line


@pytest.mark.slow
async def test_reload_runs_changed_code_and_says_why_nothing_runs_while_it_is_broken(
    program: Program, shop: Path
) -> None:
    (shop / "app" / "settings.py").write_text("NAME = \n")
    started = await program.start("--reload")
    assert "nothing of the queue runs until" in started.err, "a start waits for the correction, too"
    enqueue(program, "good", "dress-1")
    (shop / "app" / "settings.py").write_text("NAME = 'the shop'\n")
    assert (await result(program, "dress-1"))[0] == "the shop"  # type: ignore[index]
    replaced = started.err.count("its code has changed")
    (shop / "app" / "settings.py").write_text("NAME = 'the other shop'\n")
    await eventually(lambda: started.err.count("its code has changed") > replaced, what="it is replaced")
    enqueue(program, "good", "dress-2")
    assert (await result(program, "dress-2"))[0] == "the other shop"  # type: ignore[index]

    (shop / "app" / "settings.py").write_text("NAME = \n")
    await eventually(lambda: started.err.count("nothing of the queue runs until") == 2, what="it is broken")
    enqueue(program, "good", "dress-3")
    why = program.run("jobs", "why", COLOR, "--json").json
    assert why["cause"] == "handler"
    assert "no job of color-extraction can run: its handler cannot run: 'colors:work'" in why["sentence"]
    assert "correct line 1 of" in why["sentence"]
    assert "no job can run: its handler cannot run" in program.run("status").out
    (worker,) = program.run("workers", "list", "--json").json["items"]
    assert not worker["ready"]

    (shop / "app" / "settings.py").write_text("NAME = 'the shop again'\n")
    assert (await result(program, "dress-3"))[::3] == ["the shop again", 1]  # type: ignore[index]
    assert await started.stop() == 0


@pytest.mark.slow
async def test_a_worker_is_shown_with_the_memory_of_its_handler_processes(
    program: Program, shop: Path
) -> None:
    started = await program.start(COUTURECAST_DRAIN_SECONDS="0.2")

    def memory() -> int:
        (worker,) = program.run("workers", "list", "--json").json["items"]
        return int(worker["memory"])

    before = memory()
    enqueue(program, "allocate", "dress-1")
    await result(program, "dress-1")
    enqueue(program, "slow", "dress-2")  # an idle process publishes its figures every half a minute
    await eventually(lambda: memory() > before + 150_000_000, within=60, what="the memory is shown")
    assert await started.stop() == 3
