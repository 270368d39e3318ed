"""Several real processes: listed, and drained from one another, by command and over HTTP."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.completing import values
from tests.acceptance.served import QUEUE, Served, assert_problem
from tests.support.program import Program, total
from tests.support.waiting import until

WORKERS = "/api/v1/workers"
JOB = b'{"item_id": "dress-17", "image": "17.jpg"}\n'


class Pair:
    """Two processes on one data directory, and the commands that see both."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.program = Program(directory)
        self.first = Served(self.program, handler="gated", **environment)
        self.second = Served(self.program, handler="gated", **environment)

    def let_them_end(self) -> None:
        (self.program.directory / "opened").touch()

    def close(self) -> None:
        for running in (self.first, self.second):
            running.close()
        self.program.environment.clear()

    def workers(self) -> list[dict[str, Any]]:
        done = self.program.run("workers", "list", "--json")
        assert done.code == 0, done.err
        items: list[dict[str, Any]] = done.json["items"]
        return items

    def worker_of(self, pid: int) -> dict[str, Any]:
        """Return the entry of a process in the list."""
        return next(worker for worker in self.workers() if worker["pid"] == pid)

    def start_jobs(self, number: int) -> None:
        """Jobs that run until `let_them_end`."""
        assert self.program.run("enqueue", QUEUE, "-", stdin=JOB * number).code == 0
        until(lambda: sum(worker["in_flight"] for worker in self.workers()) == number)


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    made = Pair(tmp_path)
    yield made
    made.close()
    server = made.program.data_dir / "valkey" / "pid"
    if server.exists():
        os.kill(int(server.read_text()), signal.SIGKILL)


def test_one_process_is_drained_by_command_and_the_other_goes_on(pair: Pair) -> None:
    pair.start_jobs(3)
    both = pair.workers()
    assert [worker["state"] for worker in both] == ["running", "running"]
    assert all(worker["ready"] and worker["memory"] > 20_000_000 for worker in both)
    drained = max(both, key=lambda worker: worker["in_flight"])
    other = next(worker for worker in both if worker is not drained)
    with ThreadPoolExecutor() as threads:
        command = ("drain", "--worker", drained["name"], "--wait", "30", "--json")
        waiting = threads.submit(pair.program.run, *command)
        until(lambda: pair.worker_of(drained["pid"])["state"] == "draining")
        pair.let_them_end()
        done = waiting.result()
    assert done.code == 0, done.err
    (result,) = done.json["items"]
    assert (result["state"], result["put_back"], result["problem"]) == ("drained", 0, "")
    processes = {running.process.pid: running for running in (pair.first, pair.second)}
    assert processes[drained["pid"]].ended() == 0
    assert [worker["id"] for worker in pair.workers()] == [other["id"]]
    until(lambda: total(pair.program.data_dir, QUEUE, "completed") == 3)
    events = pair.program.run("events", "--kind", "worker-draining", "--json").json["items"]
    assert [event["subject"] for event in events] == [drained["id"]]


@pytest.mark.slow
def test_jobs_that_are_requeued_give_the_exit_code_3_there_and_here(tmp_path: Path) -> None:
    pair = Pair(tmp_path, COUTURECAST_DRAIN_SECONDS="1")
    try:
        pair.start_jobs(5)
        holding = next(worker for worker in pair.workers() if worker["in_flight"])
        done = pair.program.run("workers", "drain", holding["id"], "--yes", "--wait", "30")
        assert done.code == 3, done.err
        assert "requeued" in done.out
        processes = {running.process.pid: running for running in (pair.first, pair.second)}
        assert processes[holding["pid"]].ended() == 3
    finally:
        pair.close()
        os.kill(int((pair.program.data_dir / "valkey" / "pid").read_text()), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("face", ["command", "http"])
def test_a_drain_now_requeues_the_jobs_without_waiting_for_them(pair: Pair, face: str) -> None:
    pair.start_jobs(5)
    holding = next(worker for worker in pair.workers() if worker["in_flight"])
    processes = {running.process.pid: running for running in (pair.first, pair.second)}
    drained = processes.pop(holding["pid"])
    if face == "command":
        done = pair.program.run("workers", "drain", holding["id"], "--now", "--yes", "--wait", "20")
        assert done.code == 3, done.err
    else:
        (other,) = processes.values()
        with other.client() as client:
            answer = client.post(f"{WORKERS}/{holding['id']}/drain?now=true")
        assert answer.status_code in (200, 202), answer.text
    assert drained.ended() == 3  # the jobs would run for ever


def test_a_drain_is_undone_and_the_process_takes_jobs_again(pair: Pair) -> None:
    pair.start_jobs(5)
    holding = next(worker for worker in pair.workers() if worker["in_flight"])
    assert pair.program.run("workers", "drain", holding["id"], "--yes").code == 0
    shown = pair.program.run("workers", "list").out
    assert "draining" in shown
    assert " left" in shown
    done = pair.program.run("workers", "drain", holding["id"], "--undo")
    assert (done.code, done.out.strip()) == (0, f"{holding['name']} takes jobs")
    assert [worker["state"] for worker in pair.workers()] == ["running", "running"]
    pair.let_them_end()
    until(lambda: total(pair.program.data_dir, QUEUE, "completed") == 5)


def test_all_processes_drain_at_once(pair: Pair) -> None:
    done = pair.program.run("drain", "--all", "--wait", "30")
    assert done.code == 0, done.err
    assert done.out.count("has ended: no job was requeued") == 2
    assert [running.ended() for running in (pair.first, pair.second)] == [0, 0]
    assert pair.program.run("workers", "list").out == "no workers\n"
    again = pair.program.run("drain", "--all")
    assert (again.code, again.out) == (1, "no worker runs\n")


def test_without_a_name_the_processes_of_this_directory_drain(pair: Pair) -> None:
    done = pair.program.run("drain", "--wait", "30")
    assert done.code == 0, done.err
    assert [running.ended() for running in (pair.first, pair.second)] == [0, 0]
    again = pair.program.run("drain")
    assert again.code == 2
    assert "no process runs in" in again.err


@pytest.mark.slow
def test_a_drain_that_cannot_be_is_one_line(pair: Pair) -> None:
    for arguments, code, problem in (
        (("drain", "--worker", "nobody"), 1, "no worker 'nobody': it has ended, or was never there"),
        (("workers", "drain", "nobody", "--yes"), 1, "no worker 'nobody'"),
        (("workers", "drain", "x", "--undo", "--all"), 2, "name a worker, or give --all"),
        (("workers", "drain"), 2, "name a worker, or give --all"),
        (("workers", "drain", "x", "--undo", "--now"), 2, "--undo takes one worker"),
        (("workers", "drain", "--all", "--now", "--yes"), 2, "--now takes one worker"),
        (("workers", "logs", "nobody"), 1, "no worker 'nobody'"),
        (("workers", "drain", "--all"), 2, "cannot ask for confirmation"),
        (("drain", "--worker", "x", "--all"), 2, "exclude each other"),
        (("drain", "--all", "--wait", "-1"), 2, "--wait"),
    ):
        done = pair.program.run(*arguments)
        assert done.code == code, (arguments, done.err)
        (line,) = done.errors
        assert problem in line
    refused = pair.program.run("drain", "--all", COUTURECAST_READ_ONLY="1")
    assert refused.code == 1
    assert "read-only: drain would change something" in refused.err
    assert len(pair.workers()) == 2


@pytest.mark.slow
def test_ids_of_processes_are_completed(pair: Pair) -> None:
    ids = {worker["id"] for worker in pair.workers()}
    # A shell waits a second for the server, which a busy machine may not make.
    until(lambda: ids <= set(values(pair.program, "couturecast-tui workers logs ")))


def test_a_process_is_drained_over_http_of_another_one(pair: Pair) -> None:
    pair.start_jobs(5)
    with pair.first.client() as client:
        listed = client.get(WORKERS)
        assert listed.status_code == 200, listed.text
        other = max(listed.json()["items"], key=lambda item: item["in_flight"])
        url = f"{WORKERS}/{other['id']}"
        answer = client.post(f"{url}/drain", headers={"X-Operator": "anna"})
        assert (answer.status_code, answer.json()["state"]) == (202, "draining")
        (found,) = [item for item in client.get(WORKERS).json()["items"] if item["id"] == other["id"]]
        assert (found["drained_by"], found["drain_undoable"]) == ("http:anna", True)
        undone = client.post(f"{url}/undo-drain")
        assert (undone.status_code, undone.json()["state"]) == (200, "running")
        assert client.post(f"{url}/drain").status_code == 202
        pair.let_them_end()
        (ended,) = [running for running in (pair.first, pair.second) if running.process.pid == other["pid"]]
        assert ended.ended() == 0
    (left,) = [running for running in (pair.first, pair.second) if running is not ended]
    with left.client() as client:
        assert_problem(client.post(f"{WORKERS}/{other['id']}/drain"), 404)
        assert_problem(client.post(f"{WORKERS}/{other['id']}/undo-drain"), 404)
        client.headers.pop("Authorization")
        assert_problem(client.get(WORKERS), 401)
        assert_problem(client.post(f"{WORKERS}/{other['id']}/drain"), 401)
