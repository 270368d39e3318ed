"""Descriptors that are used up: commands say so, and workers go on once some are free again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.program import RUN_SECONDS, Program, client, total
from tests.support.servers import free_port
from tests.support.waiting import eventually

MODERATION = "moderation-review"
JOB = json.dumps({"content_id": "c", "text": "A fine linen coat."})


@contextlib.contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """The process can open nothing for the length of a block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def get(port: int, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=RUN_SECONDS) as answer:
        return int(answer.status)


async def test_workers_go_on_once_descriptors_are_free_again(program: Program) -> None:
    port = free_port()
    started = await program.start("--http", f"127.0.0.1:{port}", COUTURECAST_HTTP="")
    with without_descriptors(started.process.pid), client(program.data_dir) as valkey:
        valkey.client_kill_filter(_type="normal")  # each has to be opened again, which fails
        valkey.client_kill_filter(_type="pubsub")
        done = await asyncio.to_thread(program.run, "enqueue", MODERATION, "--data", JOB)
        assert done.code == 0, done.err
        await eventually(lambda: "oo many open files" in started.err, within=RUN_SECONDS, what="it says so")
        assert total(program.data_dir, MODERATION, "completed") == 0
    await eventually(lambda: total(program.data_dir, MODERATION, "completed") == 1, within=RUN_SECONDS)
    assert await asyncio.to_thread(get, port, "/livez") == 200
    assert await started.stop() == 0


@pytest.mark.parametrize("limit", [8, pytest.param(10, marks=pytest.mark.slow)])
def test_a_command_without_descriptors_gives_a_one_line_error(program: Program, limit: int) -> None:
    assert program.run("status").code == 0  # it has made the data directory, and Python its byte code
    done = subprocess.run(
        ["bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash", *program.command(("status",))],
        env=program.environment,
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"too many open files (limit {limit}): raise it with `ulimit -n`")
    assert "name another data directory" not in line
    assert done.returncode in (1, 2)
