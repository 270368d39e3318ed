"""A power cut damages the end of the embedded server's files: the next start resumes with all jobs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saq.queue.redis import RedisQueue

from app.servers.append_only import last_file
from app.servers.embedded_valkey import EmbeddedServer, EmbeddedServerError
from tests.support.program import Program, server_pid, stop_server
from workers.engine.keys import QueueKeys

QUEUE = "color-extraction"
JOBS = 40
HALF = b"*4\r\n$4\r\nHSET\r\n$3\r\nkey\r\n$5\r\nfie"
TRANSACTION = b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$%d\r\n%s\r\n" % (
    len(QueueKeys.of(QUEUE).queued),
    QueueKeys.of(QUEUE).queued.encode(),
)
"""It would delete the whole queue, and was not ended."""


@dataclass(frozen=True)
class Left:
    """The data of a server that was killed: a folder to be copied."""

    original: Path
    data_dir: Path

    def restored(self) -> Path:
        """A fresh copy of its folder; the file to which the server appended."""
        stop_server(self.data_dir)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        shutil.copytree(self.original, self.data_dir)
        file = last_file(self.data_dir / "valkey")
        assert file is not None
        return file


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    original = tmp_path_factory.mktemp("left") / "data"
    with EmbeddedServer(original) as server:
        _enqueue(server.url)
        pid = server_pid(original)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert server._process is not None
        server._process.wait()
    for path in original.rglob("*.sock"):
        path.unlink()
    found = Left(original, tmp_path_factory.mktemp("again") / "data")
    yield found
    stop_server(found.data_dir)


def _enqueue(url: str) -> None:
    async def enqueue() -> None:
        queue = RedisQueue.from_url(url, name=QUEUE)
        await queue.connect()
        for number in range(JOBS):
            await queue.enqueue("extract_colors", key=f"k{number}", item_id=f"dress {number}", image="x.jpg")
        await queue.disconnect()

    asyncio.run(enqueue())


def _check_start(left: Left, tail: bytes) -> None:
    file = left.restored()
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    with structlog.testing.capture_logs() as logged, EmbeddedServer(left.data_dir) as server:
        with redis.Redis.from_url(server.url) as valkey:
            assert valkey.llen(QueueKeys.of(QUEUE).queued) == JOBS
            assert len(list(valkey.scan_iter(f"saq:job:{QUEUE}:*"))) == JOBS
            assert valkey.set("goes", "on")
        (line,) = logged
        kept = Path(line["kept"])
        assert (line["log_level"], line["cut_bytes"]) == ("warning", len(tail))
        assert kept.read_bytes() == whole + tail
        assert (kept.parent, kept.stat().st_mode & 0o777) == (file.parent, 0o600)
        assert file.read_bytes().startswith(whole)
    assert server_pid(left.data_dir) is None


@pytest.mark.parametrize(
    "tail",
    [bytes(1), bytes(4096), HALF, HALF + bytes(4096), TRANSACTION, b"\xff\x00*3\r\n", b"#noise"],
    ids=["a zero", "zeros", "half", "half and zeros", "transaction", "noise", "annotation"],
)
def test_a_damaged_end_is_cut_off_and_no_job_is_lost(left: Left, tail: bytes) -> None:
    _check_start(left, tail)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tail=st.one_of(
        st.integers(1, 1 << 16).map(bytes),
        st.binary(min_size=1, max_size=300).filter(lambda tail: not tail.startswith(b"#")),
        st.builds(lambda number, more: HALF[:number] + bytes(more), st.integers(1, 29), st.integers(0, 5000)),
    )
)
def test_any_damaged_end_is_cut_off(left: Left, tail: bytes) -> None:
    _check_start(left, tail)


def test_damage_in_the_middle_is_reported_and_not_changed(left: Left) -> None:
    file = left.restored()
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 600] = bytes(600)
    file.write_bytes(content)
    before = sorted(file.parent.iterdir())
    with pytest.raises(EmbeddedServerError, match="whole commands follow: restore it from a backup") as error:
        EmbeddedServer(left.data_dir).acquire()
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == content
    assert sorted(file.parent.iterdir()) == before


def test_a_damaged_base_is_reported(left: Left) -> None:
    file = left.restored()
    (base,) = file.parent.glob("*.base.rdb")
    base.write_bytes(bytes(base.stat().st_size))
    with pytest.raises(EmbeddedServerError, match=r"is damaged: restore .* from a backup, or move") as error:
        EmbeddedServer(left.data_dir).acquire()
    assert str(base) in str(error.value)
    assert "valkey-check-aof" not in str(error.value)


@pytest.mark.slow
def test_the_doctor_reports_what_the_next_start_does(program: Program) -> None:
    assert _doctor(program)["state"] == "ok"
    assert program.run("pause", QUEUE).code == 0
    assert _doctor(program)["state"] == "ok"
    file = last_file(program.data_dir / "valkey")
    assert file is not None
    with file.open("ab") as stream:
        stream.write(bytes(4096))
    found = _doctor(program)
    assert found["state"] == "warning"
    assert "4,096" in found["finding"]
    assert "the next start cuts them off" in found["consequence"]
    done = program.run("status", "--json")
    assert done.code == 0
    (line,) = [json.loads(line) for line in done.err.splitlines()]
    assert Path(line["kept"]).exists()
    assert next(queue for queue in done.json["queues"] if queue["name"] == QUEUE)["paused"] is not None
    assert _doctor(program)["state"] == "ok"


def _doctor(program: Program) -> dict[str, str]:
    checks = program.run("doctor", "--json").json["items"]
    found: dict[str, str] = next(check for check in checks if check["check"] == "append-only file")
    return found
