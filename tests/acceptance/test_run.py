"""``run``: one job here and now; ``handlers check``: whether a team's handlers can be imported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Done, OpenTerminal, Program
from tests.support.waiting import eventually

COLOR, FANOUT, MODERATION = "color-extraction", "alert-fanout", "moderation-review"
SHOP = """
import asyncio, sys
from couturecast_handlers import PermanentError

async def work(ctx, what="good"):
    print("begins", what)
    await ctx["job"].update(progress=0.5)
    if what == "fail":
        raise PermanentError("no such cloth")
    if what == "enqueue":
        return await ctx["queue"].enqueue("review_content", key="c1", content_id="c1", text="a fine coat")
    if what == "slow":
        await asyncio.sleep(600)
    if what == "stop":
        breakpoint()
    return {"what": what, "attempt": ctx["job"].attempts}

def plain(ctx, what):
    if what == "stop":
        breakpoint()
    return what

def takes_nothing():
    pass
"""


@pytest.fixture
def shop(program: Program) -> Path:
    """A team's module, and the settings by which two queues are handled by it."""
    file = program.directory / "shop.py"
    file.write_text(SHOP)
    program.environment["COUTURECAST_HANDLERS"] = f"{COLOR}=shop:work,{FANOUT}=shop:plain"
    return file


def run(program: Program, queue: str, *more: str, **data: Any) -> Done:
    return program.run("run", queue, "--data", json.dumps(data), *more)


@pytest.mark.slow
def test_a_job_runs_here_with_its_traceback(program: Program, shop: Path) -> None:
    failed = run(program, COLOR, what="fail")
    assert failed.code == 1
    assert failed.out == "begins fail\n"
    assert "progress: 0.5\nTraceback (most recent call last):\n" in failed.err
    assert f'File "{shop}", line 9, in work\n' in failed.err
    assert "PermanentError: no such cloth: a worker would make it a dead letter" in failed.err
    done = run(program, COLOR, "--json", "--key", "dress-1")
    assert done.code == 0
    assert (done.json["key"], done.json["result"]) == ("dress-1", {"what": "good", "attempt": 1})
    assert "begins good" in done.err
    assert program.run("jobs", "list", "--queue", COLOR, "--json").json["items"] == []  # it was in no queue


@pytest.mark.slow
def test_built_in_inline_and_plain_handlers_run_here_and_what_one_enqueues_is_enqueued(
    program: Program, shop: Path
) -> None:
    assert (
        json.loads(run(program, MODERATION, content_id="a", text="A fine coat.").out)["decision"]
        == "approved"
    )
    assert json.loads(run(program, FANOUT, what="good").out) == "good"
    program.environment["COUTURECAST_COLOR_EXTRACTION_RUN"] = "inline"
    assert run(program, COLOR, "--json", what="fail").json["permanent"]
    program.environment["COUTURECAST_COLOR_EXTRACTION_RUN"] = "process"
    assert run(program, COLOR, "--json", what="enqueue").json["result"] == "c1"
    assert program.run("jobs", "show", MODERATION, "c1", "--json").json["state"] == "ready"


@pytest.mark.slow
def test_what_may_not_run_is_one_line(program: Program, shop: Path) -> None:
    for done, code, says in (
        (run(program, MODERATION, content_id="a"), 2, "exactly one of text and image"),
        (run(program, "nowhere"), 2, "unknown queue 'nowhere'"),
        (program.run("run", COLOR, "--data", "{", "--json"), 2, "--data: not JSON"),
        (program.run("run", COLOR, "--data", "{}", COUTURECAST_READ_ONLY="1"), 1, "read-only: run would"),
        (
            program.run("run", COLOR, "--data", "{}", COUTURECAST_HANDLERS=f"{COLOR}=shop:f"),
            2,
            "no attribute",
        ),
    ):
        assert (done.code, done.out) == (code, "")
        assert says in done.err
        assert len(done.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue", "in_process"), [(COLOR, "process"), (COLOR, "inline"), (FANOUT, "process")]
)
async def test_a_breakpoint_stops_in_the_handler(
    program: Program, shop: Path, terminal: OpenTerminal, queue: str, in_process: str
) -> None:
    shown = terminal("run", queue, "--data", '{"what": "stop"}', COUTURECAST_COLOR_EXTRACTION_RUN=in_process)
    await shown.shows("(Pdb)")
    shown.press("p 'what', what\r")
    await shown.shows("('what', 'stop')")
    shown.press("c\r")
    assert await shown.code(within=40) == 0
    assert "done in" in shown.text


@pytest.mark.slow
async def test_ctrl_c_ends_the_job_and_shows_where_it_stood(
    program: Program, shop: Path, terminal: OpenTerminal
) -> None:
    shown = terminal("run", COLOR, "--data", '{"what": "slow"}')
    await shown.shows("progress: 0.5")
    os.killpg(shown.process.pid, signal.SIGINT)  # as a terminal does
    assert await shown.code(within=40) == 128 + signal.SIGINT
    await eventually(lambda: "await asyncio.sleep(600)" in shown.text)
    assert "error: interrupted after" in shown.text


def test_handlers_check_lists_what_runs_where_and_how_to_fix_the_rest(program: Program, shop: Path) -> None:
    found = program.run("handlers", "check", COUTURECAST_ALERT_FANOUT_RUN="inline")
    assert found.code == 1
    weather, alert, color, moderation = found.out.splitlines()
    assert weather.split() == ["weather-ingestion", "built-in"]
    assert moderation.split() == ["moderation-review", "built-in"]
    assert "fails: 'shop:plain' is not an async function, and cannot run inline: write async def" in alert
    version = ".".join(map(str, sys.version_info[:3]))
    assert (
        f"async def shop:work(ctx, what='good'), in a process, Python {version} ({sys.executable})" in color
    )
    assert color.endswith(f", {shop}:5")


@pytest.mark.slow
def test_a_team_tests_its_handler_with_a_copy_of_the_package(program: Program, shop: Path) -> None:
    command = [Path(sys.executable).with_name("couturecast-tui"), "handlers", "package"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.copytree(found.stdout.strip(), program.directory / "couturecast_handlers")
    test = (
        "import couturecast_handlers, shop; print(couturecast_handlers.run_for_test(shop.work, what='good'))"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path.insert(0, '.'); {test}"],
        cwd=program.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "{'what': 'good', 'attempt': 1}"
    assert run(program, COLOR, "--json", what="fail").json["permanent"], "the process has the appliance's"


@pytest.mark.slow
def test_handlers_check_finds_what_would_fail_at_a_start(program: Program, shop: Path) -> None:
    (program.directory / "broken.py").write_text("import nowhere.at_all\n")
    names = {
        "weather-ingestion": ("shop:takes_nothing", "takes no ctx: its signature is (): write async def"),
        COLOR: ("shop:nothing", f"has no attribute 'nothing': name a function of {shop}"),
        FANOUT: ("broken:f", f"No module named 'nowhere': install nowhere for {sys.executable}, or"),
        MODERATION: ("absent:f", "No module named 'absent': name its folder in COUTURECAST_HANDLERS_PATH"),
    }
    listed = ",".join(f"{queue}={name}" for queue, (name, _) in names.items())
    found = program.run("handlers", "check", "--json", COUTURECAST_HANDLERS=listed)
    assert found.code == 1
    for item in found.json["items"]:
        assert names[item["queue"]][1] in f"{item['problem']}: {item['fix']}"
    missing = program.run("handlers", "check", COUTURECAST_HANDLERS_PATH=f"{program.directory}:/missing")
    assert (missing.code, missing.err) == (
        2,
        "error: COUTURECAST_HANDLERS_PATH: /missing is not a folder: make it, or correct the path\n",
    )
    alone = program.run("handlers", "check", "--json")
    assert alone.code == 0
    assert [item["is_async"] for item in alone.json["items"] if item["handler"]] == [False, True]
