"""A handler that blocks the event loop of the program: named, given up, taken over, started again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.served import QUEUE, served
from tests.support.program import OpenTerminal, Program
from tests.support.waiting import eventually, until

HANDLERS = """
import asyncio
import json
import os
import time


async def work(ctx, block=0, seconds=0):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(json.dumps([os.getpid(), block]) + "\\n")
    time.sleep(block)  # line 11
    await asyncio.sleep(seconds)
"""
WEDGE = """
import asyncio


async def work(ctx):
    async def hang(*_):
        await asyncio.Event().wait()

    ctx["queue"].turn_result = hang
"""
GIVE_UP_EXIT_CODE = 70


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def environment(program: Program, redis_url: str, journal: Path) -> dict[str, str]:
    (program.directory / "careless.py").write_text(HANDLERS)
    return {
        "REDIS_URL": redis_url,
        "JOURNAL": str(journal),
        "COUTURECAST_HANDLERS": f"{QUEUE}=careless:work",
        "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
        "COUTURECAST_COLOR_EXTRACTION_TIMEOUT": "3",
    }


def noted(journal: Path) -> list[Any]:
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def enqueue(program: Program, environment: dict[str, str], *jobs: dict[str, Any]) -> None:
    lines = "\n".join(json.dumps(job) for job in jobs).encode()
    done = program.run("enqueue", QUEUE, "--file", "-", stdin=lines, **environment)
    assert done.code == 0, done.err


@pytest.mark.slow
async def test_a_blocked_process_is_shown_with_its_line_and_others_take_its_jobs_over(
    program: Program, environment: dict[str, str], journal: Path
) -> None:
    blocked = await program.start(**environment)
    enqueue(program, environment, {"block": 10_000}, *[{"seconds": 0.1}] * 4)
    await eventually(lambda: noted(journal), what="the handler blocks")
    other = await program.start(**environment)

    async def shown() -> Any:
        last = (await asyncio.to_thread(program.run, "status", "--json", **environment)).json
        return [worker for worker in last["workers"] if worker["state"] == "blocked"] and last

    last = await eventually(shown, within=30, what="status shows the block")
    (worker,) = [worker for worker in last["workers"] if worker["state"] == "blocked"]
    assert worker["pid"] == blocked.process.pid
    assert worker["blocked_where"] == "handler careless:work, careless.py:11 in work"
    (queue,) = [queue for queue in last["queues"] if queue["name"] == QUEUE]
    assert queue["workers"] == 1, "a blocked process serves no queue"
    assert queue["held_by_blocked"] == 5
    assert "event_loop_blocked" in {alert["name"] for alert in last["alerts"]}

    assert await blocked.ended(within=40) == GIVE_UP_EXIT_CODE
    events = {line["event"].partition(":")[0]: line for line in blocked.logged}
    assert events["the event loop is blocked"]["where"] == worker["blocked_where"]
    assert events["the event loop is blocked"]["queue"] == QUEUE
    assert "careless.py:11" in events["the process gives up"]["why"]

    def ended() -> bool:
        return sum(not block for _, block in noted(journal)) == 4

    # The attempt that was under way is charged to all five, and there is no other here.
    async def settled() -> Any:
        last = (await asyncio.to_thread(program.run, "status", "--json", **environment)).json
        (queue,) = [queue for queue in last["queues"] if queue["name"] == QUEUE]
        return queue["in_flight"] == 0 and last["dead_letters"] == 5 and last

    last = await eventually(settled, within=30, what="the jobs were taken over")
    assert [worker["pid"] for worker in last["workers"]] == [other.process.pid]
    letters = program.run("failed-jobs", "list", "--json", **environment).json["items"]
    assert all(
        "its event loop was blocked by handler careless:work" in letter["error_message"] for letter in letters
    )
    assert not ended()
    assert await other.stop() == 0


@pytest.mark.slow
async def test_other_processes_complete_the_jobs_of_a_blocked_one(
    program: Program, environment: dict[str, str], journal: Path
) -> None:
    environment |= {"COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "0"}
    (program.directory / "careless.py").write_text(
        HANDLERS.replace("time.sleep(block)", "time.sleep(block if ctx['job'].attempts == 1 else 0)")
    )
    blocked = await program.start(**environment)
    enqueue(program, environment, {"block": 10_000}, *[{"seconds": 0.1}] * 4)
    await eventually(lambda: noted(journal), what="the handler blocks")
    other = await program.start(**environment)
    assert await blocked.ended(within=60) == GIVE_UP_EXIT_CODE

    async def done() -> bool:
        last = (await asyncio.to_thread(program.run, "status", "--json", **environment)).json
        (queue,) = [queue for queue in last["queues"] if queue["name"] == QUEUE]
        return bool(queue["completed"] == 5)

    await eventually(done, within=30, what="all five have ended")
    assert await other.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_blocked_process_after_the_drain_timeout(
    program: Program, environment: dict[str, str], journal: Path, number: signal.Signals
) -> None:
    environment |= {"COUTURECAST_COLOR_EXTRACTION_TIMEOUT": "600", "COUTURECAST_DRAIN_SECONDS": "1"}
    blocked = await program.start(**environment)
    enqueue(program, environment, {"block": 10_000})
    await eventually(lambda: noted(journal), what="the handler blocks")
    blocked.signal(number)
    assert await blocked.ended(within=40) == GIVE_UP_EXIT_CODE


@pytest.mark.slow
async def test_a_block_that_ends_costs_no_job_and_is_logged(
    program: Program, environment: dict[str, str], journal: Path
) -> None:
    environment |= {"COUTURECAST_COLOR_EXTRACTION_TIMEOUT": "60"}
    started = await program.start(**environment)
    enqueue(program, environment, {"block": 8})
    await eventually(lambda: any("moves again" in line["event"] for line in started.logged), within=40)

    async def idle() -> Any:
        last = (await asyncio.to_thread(program.run, "status", "--json", **environment)).json
        return [worker["state"] for worker in last["workers"]] == ["running"] and last

    last = await eventually(idle, within=20)
    assert sum(queue["completed"] for queue in last["queues"]) == 1
    assert await started.stop() == 0


@pytest.mark.slow
async def test_an_aborted_process_restores_the_terminal(
    terminal: OpenTerminal, program: Program, environment: dict[str, str], journal: Path
) -> None:
    shown = terminal(**environment)
    await shown.shows("color-extraction")
    enqueue(program, environment, {"block": 10_000})
    await eventually(lambda: noted(journal), what="the handler blocks")
    assert await shown.code(within=60) == GIVE_UP_EXIT_CODE
    assert shown.modes_restored()
    left = shown.output.rpartition(b"\x1b[?1049l")[2]
    assert b"\x1b[?25h" in left
    assert re.search(rb"error: gave up: .*careless\.py:11", left)
    assert (program.data_dir / "couturecast-tui.log").read_text().count("the process gives up") == 1


def test_probes_name_a_stuck_dispatcher(tmp_path: Path) -> None:
    with served(tmp_path) as running, running.client() as client:
        assert client.get("/livez").json() == {"alive": True, "reasons": []}
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}
        health = client.get("/api/v1/health/queues").json()
        assert all(queue["held_by_dead"] == queue["held_by_blocked"] == 0 for queue in health["queues"])
        assert 'couturecast_processes{state="running"} 1.0' in client.get("/metrics").text
        assert 'couturecast_processes{state="dead"} 0.0' in client.get("/metrics").text


@pytest.mark.slow
def test_a_stuck_dispatcher_fails_both_probes(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "wedge.py").write_text(WEDGE)
    environment = {
        "PYTHONPATH": str(tmp_path / "modules"),
        "COUTURECAST_HANDLERS": f"{QUEUE}=wedge:work",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
    }
    with served(tmp_path, **environment) as running, running.client() as client:
        assert client.get("/readyz").status_code == 200
        accepted = client.post(f"/api/v1/queues/{QUEUE}/jobs", json={"data": {}})
        assert accepted.status_code == 202
        until(lambda: client.get("/livez").status_code == 503, within=60)
        assert client.get("/livez").json()["reasons"] == [f"{QUEUE}: its dispatcher makes no progress"]
        assert f"{QUEUE}: its dispatcher makes no progress" in client.get("/readyz").json()["reasons"]
        running.process.kill()


@pytest.mark.slow
def test_a_frozen_process_answers_no_probe(tmp_path: Path) -> None:
    with served(tmp_path) as running, running.client() as client:
        assert client.get("/livez").status_code == 200
        os.kill(running.process.pid, signal.SIGSTOP)
        with pytest.raises(httpx.TimeoutException):
            client.get("/livez", timeout=0.5)
        os.kill(running.process.pid, signal.SIGCONT)
        assert client.get("/livez").status_code == 200
