"""Replays by command line: plans with canary, halt, pause and cancel; killed in the middle; watched."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pytest

from app.servers.data_dir import prepare_data_dir
from app.servers.embedded_valkey import EmbeddedServer
from tests.acceptance.buried import acts, bury, failed_jobs, states
from tests.support.letters import letter
from tests.support.program import COLOR, MODERATION, OpenTerminal, Process, Program, client, many, total
from tests.support.waiting import eventually
from workers.engine.keys import PLAN, QueueKeys

NOW = datetime.now(UTC)
SHOP = '''
import os


async def sell(ctx, **kwargs):
    """Fail for as long as its file is missing."""
    if not os.path.exists(os.environ["MENDED"]):
        raise ConnectionError("the shop is closed")
'''


async def bury_many(program: Program, count: int, **fields: Any) -> None:
    """Letters with the ids from 1 on, of the jobs k1, k2 and so on."""
    await bury(
        program,
        [
            letter(
                f"u{number}",
                job_id=f"k{number}",
                queue_name=COLOR,
                function="extract_colors",
                job_data={"kwargs": {"item_id": f"i{number}", "image": "x.jpg"}},
                failed_at=NOW - timedelta(seconds=count - number),
                **fields,
            )
            for number in range(1, count + 1)
        ],
    )


def shop(program: Program, directory: Path) -> Path:
    """A handler that fails until a file is there; the file."""
    (directory / "shop.py").write_text(SHOP)
    mended = directory / "mended"
    program.environment |= {
        "PYTHONPATH": str(directory),
        "MENDED": str(mended),
        "COUTURECAST_HANDLERS": f"{COLOR}=shop:sell",
        "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
    }
    return mended


class Running:
    """A command while it runs."""

    def __init__(self, process: Process, out: IO[bytes], log: IO[bytes]) -> None:
        self.process = process
        self._out = out
        self._log = log

    def end(self, within: float = 20.0) -> tuple[int, bytes, bytes]:
        """Wait for its end; its exit code, and what it wrote to standard output and to standard error."""
        code, out = self.process.wait(within), self._out.read()
        self._log.seek(0)
        return code, out, self._log.read()


@contextmanager
def running(program: Program, *arguments: str) -> Iterator[Running]:
    """The command, while it runs; killed if it still does."""
    with TemporaryFile() as log:
        process, out = program.spawn("failed-jobs", *arguments, log=log)
        with out:
            try:
                yield Running(process, out, log)
            finally:
                process.kill()
                process.wait()


@pytest.fixture
def server(program: Program) -> Iterator[None]:
    """The embedded server, kept while no program needs it."""
    kept = EmbeddedServer(prepare_data_dir(program.data_dir))
    kept.acquire()
    yield
    kept.release()


def queued(program: Program) -> list[str]:
    """The keys of the jobs that wait, in their order."""
    with client(program.data_dir) as valkey:
        return [id_.decode().rpartition(":")[2] for id_ in valkey.lrange(QueueKeys.of(COLOR).queued, 0, -1)]


def held(program: Program) -> bool:
    """Whether somebody carries plan 1 out."""
    with client(program.data_dir) as valkey:
        return bool(valkey.exists(f"{PLAN}1"))


async def assert_dry_runs_change_nothing(program: Program) -> None:
    tried, as_json, one = await many(
        program,
        *failed_jobs(
            ("replay", "--queue", COLOR, "--dry-run", "--rate", "2", "--canary", "2"),
            ("replay", "1", "3", "--dry-run", "--json"),
            ("replay", "4", "--dry-run"),
        ),
    )
    assert tried.out.splitlines()[0] == f"4 letters selected, all of {COLOR}"
    assert "takes at least 2.0 s" in tried.out
    assert "canary of 2 first · 2 a second · halts when more than 20 % die again" in tried.out
    assert (as_json.json["dry_run"], as_json.json["total"], as_json.json["left_out"]) == (True, 2, [])
    assert (one.code, one.out.splitlines()[0]) == (0, f"1 letter selected, of {COLOR}")
    assert (set(states(program).values()), queued(program)) == ({"dead"}, ["k2"])
    assert [verb for verb, *_ in acts(program)] == ["enqueue"]


def assert_plan_skips_a_key_that_is_queued(program: Program) -> None:
    done = program.run("failed-jobs", "replay", "--queue", COLOR, "--yes", "--reason", "shop is open")
    assert (done.code, done.errors) == (1, [])  # one was skipped
    ledger = dict(line.rsplit(maxsplit=1) for line in done.out.splitlines()[1:9])
    assert (ledger["replayed"], ledger["  running"], ledger["skipped"]) == ("3", "3", "1")
    assert "  letter 2: a job with the key k2 is queued already" in done.out
    assert "how they end: couturecast-tui failed-jobs plan 1" in done.out
    assert queued(program) == ["k2", "k1", "k3", "k4"]
    left = program.run("failed-jobs", "replay", "1", "2", "3", "--yes", "--json")
    assert left.code == 1
    assert left.json["preview"]["left_out"] == [1, 3]
    (skipped,) = left.json["skipped"]
    assert (skipped["letter_id"], skipped["state"], left.json["ledger"]["skipped"]) == (2, "skipped", 1)


async def assert_plans_are_shown_with_their_ledgers(program: Program) -> None:
    nothing, no_json, plans, plan, items, waiting = await many(
        program,
        *failed_jobs(
            ("replay", "--queue", COLOR, "--until", "30d", "--yes"),
            ("replay", "--queue", COLOR, "--until", "30d", "--yes", "--json"),
            ("plans", "--json"),
            ("plan", "1"),
            ("plan", "1", "--items", "--limit", "2", "--json"),
            ("plan", "1", "--state", "skipped"),
        ),
    )
    assert (nothing.code, nothing.out) == (0, "nothing to replay\n")
    assert (no_json.code, no_json.json["plan"], no_json.json["skipped"]) == (0, None, [])
    assert [(item["id"], item["state"], item["reason"]) for item in plans.json["items"]] == [
        (2, "done", ""),
        (1, "done", "shop is open"),
    ]
    assert plans.json["items"][1]["ledger"] == plan_ledger(enqueued=3, skipped=1)
    assert plan.out.startswith("plan 1 is done\n")
    assert f"of 4 letters: queue:{COLOR}" in plan.out
    assert [item["letter_id"] for item in items.json["items"]] == [1, 2]
    following = program.run("failed-jobs", "plan", "1", "--cursor", items.json["next"], "--json")
    assert [item["letter_id"] for item in following.json["items"]] == [3, 4]
    assert following.json["next"] is None
    assert waiting.out.splitlines()[1].split()[:2] == ["2", "skipped"]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
async def test_a_plan_has_the_letters_that_were_dead_and_their_results_in_its_ledger(
    program: Program,
) -> None:
    await bury_many(program, 4)
    await bury(program, [letter("poison", job_id="k5", queue_name=MODERATION)])
    data = '{"item_id": "i", "image": "x.jpg"}'
    assert program.run("enqueue", COLOR, "--data", data, "--key", "k2").code == 0
    await assert_dry_runs_change_nothing(program)
    assert_plan_skips_a_key_that_is_queued(program)
    await assert_plans_are_shown_with_their_ledgers(program)
    found = acts(program)[1:]
    assert [verb for verb, *_ in found] == ["plan", "run-plan"] * 2
    assert found[:2] == [("plan", 4, "shop is open"), ("run-plan", 3, "")]


def plan_ledger(**counts: int) -> dict[str, int]:
    """A ledger as JSON has it."""
    names = ("waiting", "enqueued", "completed", "same", "other", "aborted", "skipped")
    return dict.fromkeys(names, 0) | counts


@pytest.mark.slow
async def test_a_canary_that_dies_halts_the_plan_until_the_cause_is_mended(
    program: Program, tmp_path: Path
) -> None:
    mended = shop(program, tmp_path)
    await bury_many(program, 30, fingerprint="f" * 16)
    started = await program.start("--queues", COLOR)
    halted = program.run("failed-jobs", "replay", "--all", "--yes", "--canary", "4", "--json")
    assert halted.code == 1
    assert (halted.json["plan"]["state"], halted.json["ledger"]["waiting"]) == ("halted", 26)
    assert "died again, limit 20" in halted.json["plan"]["note"]
    refused = program.run("failed-jobs", "resume", "1")
    assert (refused.code, refused.out) == (1, "")
    assert "once the cause is fixed, give a limit above 20, for instance --halt 100;" in refused.errors[0]
    mended.touch()
    done = program.run("failed-jobs", "resume", "1", "--halt", "100%", "--wait")
    assert done.code == 1  # of those that were waited for four had died
    assert done.out.startswith("plan 1 is done\n")
    ledger = dict(line.rsplit(maxsplit=1) for line in done.out.splitlines()[1:9])
    assert (ledger["replayed"], ledger["  completed"], ledger["waiting"]) == ("30", "26", "0")
    shown = program.run("failed-jobs", "show", "1")
    assert "lineage\n  letter 1 (this one): " in shown.out
    assert "    plan 1  " in shown.out
    assert "  died, " in shown.out
    assert re.search(r"  letter 3\d, of letter 1: ", shown.out)
    payload = '{"item_id": "mended"}'
    edited = program.run("failed-jobs", "replay", "31", "--data", payload, "--json", "--wait")
    assert (edited.code, edited.json["ledger"]) == (0, plan_ledger(completed=1)), edited.err
    with client(program.data_dir) as valkey:
        job = json.loads(valkey.get(f"saq:job:{COLOR}:{edited.json['job_id']}") or b"")
    assert job["kwargs"] == {"item_id": "mended"}
    rest = program.run("failed-jobs", "replay", "--all", "--yes", "--wait", "--json")
    assert (rest.code, rest.json["ledger"]) == (0, plan_ledger(completed=3)), rest.err
    assert await started.stop() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("server")
async def test_a_replay_that_is_killed_is_resumed_and_enqueues_each_job_once(program: Program) -> None:
    count = 2_000
    await bury_many(program, count)
    with running(program, "replay", "--all", "--yes", "--rate", "400", "--halt", "100") as run:
        await eventually(lambda: len(queued(program)) > 200, within=30)
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    assert 200 < len(queued(program)) < count
    with running(program, "resume", "1") as run:  # it waits until the place of the dead process is free
        before = time.monotonic()
        code, out, _ = await asyncio.to_thread(run.end, 60)
        assert (code, out.startswith(b"plan 1 is done")) == (0, True)
        assert time.monotonic() - before < 60
    keys = queued(program)
    assert (len(keys), len(set(keys))) == (count, count)
    assert set(states(program).values()) == {"replayed"}


@pytest.mark.slow
@pytest.mark.usefixtures("server")
async def test_a_plan_is_paused_broken_off_and_cancelled(program: Program) -> None:
    await bury_many(program, 500)
    with running(program, "replay", "--all", "--yes", "--rate", "20") as run:
        await eventually(lambda: queued(program), within=30)
        paused = program.run("failed-jobs", "pause", "1")
        assert (paused.code, paused.out.startswith("plan 1 is paused, ")) == (0, True)
        code, out, _ = await asyncio.to_thread(run.end)
        assert code == 1
        assert out.startswith(b"plan 1 is paused\n")
        assert b"to resume: couturecast-tui failed-jobs resume 1" in out
    sent = len(queued(program))
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with running(program, "resume", "1", "--json") as run:
            await eventually(lambda: len(queued(program)) > sent, within=30)  # noqa: B023
            run.process.send_signal(number)
            ended, out, err = await asyncio.to_thread(run.end)
            assert (ended, out) == (code, b"")
            line = err.splitlines()[-1]
            assert line == (
                b"error: interrupted: plan 1 is kept, resume it with couturecast-tui failed-jobs resume 1"
            )
        sent = len(queued(program))
        assert not held(program)  # it need not be waited for
    interrupted = "plan 1 is interrupted\nto resume: couturecast-tui failed-jobs resume 1\n"

    async def noticed() -> bool:
        await asyncio.sleep(0.2)
        return program.run("failed-jobs", "plan", "1").out.startswith(interrupted)

    await eventually(noticed)  # a plan that was made a moment ago counts as running
    assert "resume it with couturecast-tui failed-jobs resume 1" in program.run("failed-jobs", "plans").err
    listed = program.run("failed-jobs", "plans", "--json").json["items"][0]
    assert (listed["state"], listed["standing"]) == ("running", "interrupted")
    cancelled = program.run("failed-jobs", "cancel", "1", "--json")
    assert (cancelled.code, cancelled.json["plan"]["state"]) == (0, "cancelled")
    assert 0 <= cancelled.json["ledger"]["waiting"] - (500 - sent) < 5  # the last may not be marked yet
    resumed, stopped = await many(program, *failed_jobs(("resume", "1"), ("pause", "1")))
    assert (resumed.code, resumed.errors) == (
        1,
        ["error: plan 1 is cancelled: make a new one of what is still dead"],
    )
    assert (stopped.code, stopped.errors) == (1, ["error: plan 1 is cancelled: there is nothing to stop"])
    assert [verb for verb, *_ in acts(program)][:2] == ["plan", "pause-plan"]


@pytest.mark.slow
async def test_on_a_terminal_a_replay_is_confirmed_and_watched(
    program: Program, terminal: OpenTerminal, tmp_path: Path
) -> None:
    shop(program, tmp_path).touch()
    await bury_many(program, 30)
    asked = terminal("failed-jobs", "replay", "--queue", COLOR, "--rate", "15", "--wait", "--canary", "1")
    await asked.shows("Replay 30 letters? [y/N]")
    asked.press("y\r")
    await asked.shows("no worker is running: the jobs wait until one does")
    started = await program.start("--queues", COLOR)
    await asked.shows("completed, 0 died again")
    assert await asked.code(within=40) == 0
    assert "plan 1 ━" in asked.text
    assert "plan 1 is done" in asked.text
    assert total(program.data_dir, COLOR, "completed") == 30
    assert all(len(line) <= 80 for line in asked.text.split("plan 1 is done")[1].splitlines())
    assert await started.stop() == 0
