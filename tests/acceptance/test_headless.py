"""``couturecast-tui --no-ui``: ready, drain, exit codes, foreign handlers, servers of one's own."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import saq

from tests.support.program import Program, client, server_pid, total
from tests.support.waiting import eventually

HANDLERS = '''
import asyncio
import json
import os
import time

if "LOUD" in os.environ:
    print("imported")


async def note(ctx, **kwargs):
    """Write down what arrived."""
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(json.dumps([ctx["job"].attempts, kwargs]) + "\\n")
    return {"seen": kwargs}


async def in_a_thread(ctx, seconds):
    await note(ctx, seconds=seconds)
    await asyncio.to_thread(time.sleep, seconds)


async def stubborn(ctx, seconds):
    await note(ctx, seconds=seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            pass


async def slow(ctx, seconds=60):
    """Take a long time."""
    await note(ctx, seconds=seconds)
    await asyncio.sleep(seconds)
'''

MakeHandlers = Callable[..., dict[str, str]]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def handlers(tmp_path: Path, journal: Path) -> MakeHandlers:
    """Environment in which a team's own module handles color-extraction."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "teams_own.py").write_text(HANDLERS)

    def make(function: str, **more: str) -> dict[str, str]:
        return {
            "PYTHONPATH": str(tmp_path / "modules"),
            "JOURNAL": str(journal),
            "COUTURECAST_HANDLERS": f"color-extraction=teams_own:{function}",
            **more,
        }

    return make


def noted(journal: Path) -> list[Any]:
    """Return the handlers' notes: the attempt and the arguments of each start."""
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def enqueue(program: Program, data: dict[str, Any], **environment: str) -> str:
    done = program.run("enqueue", "color-extraction", "--data", json.dumps(data), **environment)
    assert done.code == 0, done.err
    return done.out.strip()


async def test_idle_it_logs_json_and_drains_within_a_second(program: Program) -> None:
    took = [60.0]
    while min(took) >= 1.0 and len(took) <= 3:  # the machine may be busy once
        started = await program.start(COUTURECAST_DRAIN_SECOND="5")
        assert server_pid(program.data_dir) is not None
        assert await started.stop() == 0
        events = {line["event"].partition(":")[0]: line for line in started.logged}
        assert {"takes jobs", "draining", "drained"} <= set(events)
        began, ended = (datetime.fromisoformat(events[name]["timestamp"]) for name in ("draining", "drained"))
        took.append((ended - began).total_seconds())
    assert min(took) < 1.0
    assert all({"level", "timestamp"} <= set(line) for line in started.logged)
    assert any("did you mean COUTURECAST_DRAIN_SECONDS?" in line["event"] for line in started.logged)
    assert server_pid(program.data_dir) is None


async def test_jobs_that_do_not_end_in_time_go_back_uncharged_and_the_code_is_3(
    program: Program, handlers: MakeHandlers, journal: Path
) -> None:
    environment = handlers("slow", COUTURECAST_DRAIN_SECONDS="0.5")
    started = await program.start(**environment)
    enqueue(program, {"seconds": 60}, **environment)
    await eventually(lambda: noted(journal), what="the job starts")
    assert await started.stop() == 3
    assert any(line.get("put_back") == 1 for line in started.logged)
    assert program.run("status", "--json", **environment).json["queues"][2]["depth"] == 1
    again = await program.start(**environment)  # it runs again, and uses its first attempt still
    await eventually(lambda: len(noted(journal)) == 2, what="the job starts again")
    assert noted(journal) == [[1, {"seconds": 60}], [1, {"seconds": 60}]]
    again.signal(signal.SIGTERM)
    assert await again.ended() == 3


@pytest.mark.parametrize("function", ["in_a_thread", "stubborn"])
async def test_e9_a_handler_that_cannot_be_ended_does_not_keep_the_process(
    program: Program, handlers: MakeHandlers, journal: Path, function: str
) -> None:
    environment = handlers(
        function, COUTURECAST_DRAIN_SECONDS="0.2", COUTURECAST_COLOR_EXTRACTION_RUN="inline"
    )
    started = await program.start(**environment)
    enqueue(program, {"seconds": 90}, **environment)
    await eventually(lambda: noted(journal), what="the job starts")
    assert await started.stop() == 3
    assert server_pid(program.data_dir) is None


@pytest.mark.slow
async def test_a_job_in_flight_may_end_and_a_second_sigint_ends_the_wait(
    program: Program, handlers: MakeHandlers, journal: Path
) -> None:
    environment = handlers("slow")
    started = await program.start(**environment)
    enqueue(program, {"seconds": 60}, **environment)
    enqueue(program, {"seconds": 3}, **environment)
    await eventually(lambda: len(noted(journal)) == 2, what="both jobs start")
    started.signal(signal.SIGINT)
    await eventually(lambda: "draining" in started.err)
    await eventually(lambda: total(program.data_dir, "color-extraction", "completed") == 1)
    assert started.process.poll() is None  # waits for the other
    started.signal(signal.SIGINT)
    assert await started.ended(within=5) == 3


async def test_a_foreign_handler_takes_what_the_schema_would_refuse(
    program: Program, handlers: MakeHandlers, journal: Path
) -> None:
    environment = handlers("note", LOUD="1")
    started = await program.start(**environment)
    key = enqueue(program, {"anything": [1, None, {"ü": "袍"}]}, **environment)
    await eventually(lambda: total(program.data_dir, "color-extraction", "completed") == 1)
    assert noted(journal) == [[1, {"anything": [1, None, {"ü": "袍"}]}]]
    with client(program.data_dir) as valkey:
        job = json.loads(valkey.get(f"saq:job:color-extraction:{key}") or b"")
    assert job["result"] == {"seen": {"anything": [1, None, {"ü": "袍"}]}}
    assert (
        await started.stop() == 0
    )  # with nothing but `ready` on stdout, though the module prints when imported


@pytest.mark.slow
async def test_queues_that_are_not_named_are_left_alone(program: Program) -> None:
    job = '{"content_id": "c1", "text": "A fine linen coat."}'
    alert = json.dumps(
        {
            "alert_id": "a1",
            "location_id": "porto",
            "event": "Gale",
            "severity": "severe",
            "starts_at": "2026-03-01T00:00:00Z",
            "ends_at": "2026-03-01T06:00:00Z",
            "description": "",
        }
    )
    image = '{"item_id": "i1", "image": "none.jpg"}'
    jobs = {"moderation-review": job, "alert-fanout": alert, "color-extraction": image}
    runs = [asyncio.to_thread(program.run, "enqueue", queue, "--data", data) for queue, data in jobs.items()]
    assert [done.code for done in await asyncio.gather(*runs)] == [0, 0, 0]
    started = await program.start("--queues", "moderation-review, alert-fanout")
    await eventually(lambda: total(program.data_dir, "moderation-review", "completed") == 1)
    await eventually(lambda: total(program.data_dir, "alert-fanout", "completed") == 1)
    status = await program.status()
    assert [worker["queues"] for worker in status["workers"]] == [["moderation-review", "alert-fanout"]]
    assert {queue["name"]: queue["depth"] for queue in status["queues"]} == {
        "weather-ingestion": 0,
        "alert-fanout": 0,
        "color-extraction": 1,
        "moderation-review": 0,
    }
    assert await started.stop() == 0
    database = sqlite3.connect(program.data_dir / "couturecast.db")
    assert database.execute("SELECT decision FROM moderation_decisions").fetchall() == [("approved",)]
    database.close()


async def test_named_servers_are_used_and_no_embedded_one_starts(
    program: Program, redis_url: str, postgres_url: str
) -> None:
    program.environment |= {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url}
    started = await program.start(
        "--queues", "color-extraction", COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS="none"
    )
    queue: Any = saq.Queue.from_url(redis_url, name="color-extraction")
    await queue.enqueue(
        "extract_colors", item_id="i1", image="none.jpg"
    )  # of a program that knows nothing of us
    connection = await asyncpg.connect(postgres_url)
    rows = await eventually(lambda: connection.fetch("SELECT queue_name, error_message FROM job_failures"))
    assert [tuple(row) for row in rows] == [
        ("color-extraction", "image: no file 'none.jpg' in the folders of COUTURECAST_IMAGE_DIRS")
    ]
    status = await program.status()
    assert status["dead_letters"] == 1
    assert status["redis"]["url"] == redis_url
    assert status["database"]["url"].startswith("postgresql://")
    assert await started.stop() == 0
    await connection.close()
    await queue.disconnect()
    assert not (program.data_dir / "valkey").exists()
    assert not (program.data_dir / "couturecast.db").exists()


@pytest.mark.parametrize(
    ("sent", "codes"),
    [
        pytest.param(signal.SIGINT, (0, 130), id="SIGINT", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, (0,), id="SIGTERM"),
    ],
)
async def test_a_start_that_is_interrupted_leaves_no_server(
    program: Program, sent: signal.Signals, codes: tuple[int, ...]
) -> None:
    process = await asyncio.create_subprocess_exec(
        *program.command(("--no-ui",)), env=program.environment, cwd=program.directory
    )
    await eventually(
        lambda: (program.data_dir / "valkey" / "start.lock").exists(), what="the start of the server"
    )
    process.send_signal(sent)
    assert await asyncio.wait_for(process.wait(), 20) in codes
    assert server_pid(program.data_dir) is None
