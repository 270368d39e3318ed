"""Jobs that are sent one a line: enqueued while they are read, and how to go on after an error."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis

from tests.acceptance.served import QUEUE, Served, assert_problem, served
from tests.support.program import client as valkey
from tests.support.servers import ValkeyServer

BULK = f"/api/v1/queues/{QUEUE}/jobs/bulk"
LINES = {"Content-Type": "application/x-ndjson"}
DELAY_SECONDS = 600
MEGABYTE = 1_000_000


def line(key: str, **data: Any) -> bytes:
    """A job that waits for its time."""
    return json.dumps({"data": data, "key": key, "delay": DELAY_SECONDS}).encode() + b"\n"


def enqueued(server: Served, prefix: str) -> list[str]:
    """The keys of jobs that wait for their time, in the order in which they were enqueued."""
    with valkey(server.program.data_dir) as redis:
        ids: Any = redis.zrange(f"saq:{QUEUE}:incomplete", 0, -1)
    keys = [job.decode().removeprefix(f"saq:job:{QUEUE}:") for job in ids]
    return [key for key in keys if key.startswith(prefix)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Upload:
    """A request whose body is sent in pieces, in the test's own time."""

    def __init__(self, running: Served) -> None:
        place = urlsplit(running.url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=90)
        self._connection.putrequest("POST", BULK)
        for name, value in {
            **LINES,
            "Authorization": f"Bearer {running.token}",
            "Transfer-Encoding": "chunked",
        }.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def send(self, piece: bytes) -> None:
        self._connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    def answer(self) -> tuple[int, dict[str, Any]]:
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def leave(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def upload(running: Served) -> Iterator[Upload]:
    opened = Upload(running)
    try:
        yield opened
    finally:
        opened.leave()


def test_lines_of_any_number_are_enqueued(server: Served, client: httpx.Client) -> None:
    lines = [line(f"many-{n:04}") for n in range(2_500)]
    lines[7] = b"\r\n \n" + lines[7].replace(b"\n", b"\r\n")  # empty lines, and ends as Windows has them
    answer = client.post(BULK, content=b"".join(lines).rstrip(), headers=LINES)
    assert (answer.status_code, answer.json()) == (202, {"queue": QUEUE, "enqueued": 2_500})
    assert sorted(enqueued(server, "many-")) == [f"many-{n:04}" for n in range(2_500)]
    empty = client.post(BULK, content=b"", headers={"Content-Type": "application/jsonl"})
    assert (empty.status_code, empty.json()["enqueued"]) == (202, 0)


BAD_LINES = {
    "no JSON": (b'{"data": ', 400, "line 4: not JSON"),
    "not UTF-8": (b'{"data": {"x": "\xff"}}', 400, "line 4: not UTF-8"),
    "NaN": (b'{"data": {"x": NaN}}', 400, "line 4: not JSON: NaN is not a number"),
    "no object": (b"[]", 422, "line 4: "),
    "unknown field": (b'{"data": {}, "queue": "x"}', 422, "line 4, queue: "),
    "no data": (b'{"key": "x"}', 422, "line 4, data: Field required"),
    "a NUL": (b'{"data": {"x": "\\u0000"}}', 422, "line 4: the job holds a NUL"),
    "too large a job": (b'{"data": {"x": "' + b"x" * MEGABYTE + b'"}}', 422, "line 4: "),
    "too long a line": (b'{"data": {"x": "' + b"x" * 30 * MEGABYTE + b'"}}', 413, "line 4 has more than"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_and_the_rest_can_be_sent_again(
    server: Served, client: httpx.Client, case: str
) -> None:
    bad, status, problem = BAD_LINES[case]
    first, last = [line(f"{case}-{n}") for n in range(2)], line(f"{case}-last")
    before = peak_memory(server)
    answer = client.post(BULK, content=b"\n".join([b"".join(first), bad, last]), headers=LINES)
    found = assert_problem(answer, status, "2 jobs were enqueued; from_line=4 goes on")
    assert found["detail"].startswith(problem)
    assert (found["enqueued"], found["next_line"]) == (2, 4)
    assert sorted(enqueued(server, case)) == [f"{case}-0", f"{case}-1"]
    assert peak_memory(server) - before < 25 * MEGABYTE  # the longest body has 30

    corrected = b"\n".join([b"".join(first), line(f"{case}-fixed").rstrip(), last])
    again = client.post(f"{BULK}?from_line=4", content=corrected, headers=LINES)
    assert (again.status_code, again.json()["enqueued"]) == (202, 2)
    assert len(enqueued(server, case)) == 4


def test_keys_that_are_queued_already_are_named_by_their_lines(server: Served, client: httpx.Client) -> None:
    body = line("twice") + line("once") + line("twice") * 30
    found = assert_problem(client.post(BULK, content=body, headers=LINES), 409, "2 of 32 jobs enqueued")
    assert found["enqueued"] == 2
    assert found["detail"].endswith(
        ": line 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22 and 10 more"
    )
    assert sorted(enqueued(server, "twice") + enqueued(server, "once")) == ["once", "twice"]


@pytest.mark.slow
def test_bodies_that_are_not_lines_are_refused(client: httpx.Client) -> None:
    as_json = client.post(BULK, json={"data": {}})
    assert_problem(as_json, 415, "application/x-ndjson")
    packed = client.post(BULK, content=b"", headers=LINES | {"Content-Encoding": "gzip"})
    assert packed.status_code == 202  # without a body, it is not packed
    packed = client.post(BULK, content=b"\x1f\x8b", headers=LINES | {"Content-Encoding": "gzip"})
    assert_problem(packed, 415, "Content-Encoding")
    unknown = client.post("/api/v1/queues/colours/jobs/bulk", content=b"", headers=LINES)
    assert_problem(unknown, 404, "use one of")
    assert_problem(client.post(f"{BULK}?from_line=0", content=b"", headers=LINES), 422, "from_line")


def test_whole_lines_are_enqueued_before_the_body_ends_and_half_a_line_never(server: Served) -> None:
    with upload(server) as sender:
        sender.send(line("slow-0"))
        until(lambda: enqueued(server, "slow-") == ["slow-0"])
        sender.send(line("slow-1") + line("slow-2").rstrip())  # a whole job, whose line has no end yet
        until(lambda: len(enqueued(server, "slow-")) == 2)
    left = server.event("a client left while it sent jobs")
    assert (left["enqueued"], left["line"]) == (2, 3)
    assert sorted(enqueued(server, "slow-")) == ["slow-0", "slow-1"]


@pytest.mark.slow
def test_a_line_that_does_not_come_to_its_end_is_answered(server: Served) -> None:
    with upload(server) as sender:
        sender.send(line("dripping-0") + b'{"data"')
        status, problem = sender.answer()
    assert (status, problem["enqueued"], problem["next_line"]) == (408, 1, 2)
    assert problem["detail"] == "line 2 took longer than 30 s: 1 jobs were enqueued; from_line=2 goes on"


@pytest.mark.slow
def test_the_end_of_the_process_is_answered(tmp_path: Path) -> None:
    with served(tmp_path) as running, upload(running) as sender:
        sender.send(line("ending-0"))
        until(lambda: len(enqueued(running, "ending-")) == 1)
        running.process.send_signal(signal.SIGTERM)
        status, problem = sender.answer()
        assert (status, problem["enqueued"], problem["next_line"]) == (503, 1, 2)
        assert "the process ends" in problem["detail"]
        assert running.ended() == 0
        assert "Traceback" not in running.log


@pytest.mark.slow
def test_a_redis_that_stops_is_a_503(tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    redis = ValkeyServer(tmp_path / "valkey")
    redis.start()
    try:
        with served(tmp_path, REDIS_URL=redis.url) as running, upload(running) as sender:
            sender.send(line("outage-0"))
            with Redis.from_url(redis.url) as client:
                until(lambda: client.zcard(f"saq:{QUEUE}:incomplete") == 1)
            redis.kill()
            sender.send(line("outage-1"))
            status, problem = sender.answer()
            assert (status, problem["enqueued"], problem["next_line"]) == (503, 1, 2)
            assert problem["detail"].startswith("Redis: ")
            assert "and perhaps some more; from_line=2 goes on" in problem["detail"]
    finally:
        redis.stop()


@pytest.mark.slow
def test_read_only_mode_refuses_before_the_body_comes(tmp_path: Path) -> None:
    with served(tmp_path, COUTURECAST_READ_ONLY="1") as running, upload(running) as sender:
        status, problem = sender.answer()
        assert (status, "read-only" in problem["detail"]) == (403, True)


def peak_memory(running: Served) -> int:
    """The most bytes that the process ever had."""
    text = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM"))) * 1024
