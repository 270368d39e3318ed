"""An apply that fails on the way, loses an answer or is interrupted: no database is created twice."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from pydantic import SecretStr

from app.upstash.api import UpstashApi
from app.upstash.errors import UpstashError
from app.upstash.spec import DATABASES
from tests.acceptance.upstash.conftest import ALL, Operator
from tests.support.program import OpenTerminal
from tests.support.upstash_api import EMAIL, KEY, Fault, Upstash
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow  # some sixty starts of the program; the decisions are in tests/unit


def test_after_a_failure_apply_makes_the_remaining_changes(operator: Operator) -> None:
    operator.upstash.faults.append(
        Fault("POST /redis/database", 503, {"error": "maintenance"}, skip=1, times=1)
    )
    done = operator.run("apply", "--yes")
    assert done.code == 1
    assert "done: create couturecast-dev" in done.err
    (line,) = done.errors
    assert "to create couturecast-staging: Upstash failed (503: maintenance)" in line
    assert "done before: create couturecast-dev: free" in line
    assert line.endswith("apply again does the rest")
    assert operator.run("apply", "--yes").code == 0
    assert sorted(made["database_name"] for made in operator.upstash.databases.values()) == sorted(ALL)


def test_a_lost_answer_creates_no_second_database(operator: Operator) -> None:
    operator.upstash.faults.append(Fault("POST /redis/database", lost=True, times=1))
    line = operator.fails("apply", "--yes")
    assert "to create couturecast-dev: no answer from 127.0.0.1: it may have been done: apply again" in line
    assert operator.run("apply", "--yes").code == 0
    assert sorted(made["database_name"] for made in operator.upstash.databases.values()) == sorted(ALL)


async def test_a_database_created_since_the_comparison_is_not_created_again(
    operator: Operator, terminal: OpenTerminal
) -> None:
    seen = terminal(*operator.command("apply", "--only", "dev"), size=(160, 40), **operator.environment)
    await seen.shows("Make 1 change at Upstash?")
    operator.upstash.add("couturecast-dev")
    seen.press("y\n")
    assert await seen.code() == 1
    assert "was made by another program since the comparison" in seen.text
    assert operator.upstash.mutations == []


@pytest.mark.parametrize("arguments", [("--yes",), ("--yes", "--json")])
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_output_interrupts_no_change(
    operator: Operator, arguments: tuple[str, ...], closed: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: writing}
    done = subprocess.run(
        operator.program.command(operator.command("apply", *arguments)),
        env=operator.program.environment | operator.environment,
        cwd=operator.program.directory,
        stdin=subprocess.DEVNULL,
        check=False,
        **streams,
    )
    os.close(writing)
    assert len(operator.upstash.mutations) == 4
    assert done.returncode == 0, "what was done is no failure"
    if closed == "stdout":
        assert [name for name in ALL if f"done: create {name}: ".encode() in done.stderr] == ALL


@pytest.mark.parametrize("arguments", [("--yes",), ("--yes", "--json")])
async def test_an_interrupted_apply_lists_the_changes_made(
    operator: Operator, terminal: OpenTerminal, arguments: tuple[str, ...]
) -> None:
    operator.upstash.faults.append(Fault("POST", seconds=3, skip=1))
    seen = terminal(*operator.command("apply", *arguments), size=(200, 40), **operator.environment)
    await eventually(lambda: len(operator.upstash.mutations) == 2)
    seen.process.send_signal(signal.SIGINT)
    assert await seen.code() == 130
    assert (
        "error: interrupted: the change that was under way may have been made; done before: create couture"
        in seen.text
    )
    assert "apply again does the rest" in seen.text
    assert "Traceback" not in seen.text


def test_a_timeout_is_reported(upstash: Upstash) -> None:
    upstash.faults += [Fault("GET", seconds=0.5, times=1), Fault("POST", seconds=0.5, times=1)]
    account = UpstashApi(upstash.url, EMAIL, SecretStr(KEY), timeout=0.1)
    with pytest.raises(UpstashError, match=r"no answer from 127\.0\.0\.1: retry later"):
        account.databases(ALL)
    with pytest.raises(UpstashError, match="it may have been done: apply again, which compares first"):
        account.create(DATABASES[0])
    account.close()
    assert KEY not in repr(vars(account))
