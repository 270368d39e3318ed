"""``couturecast-tui probe live|ready``: the health check of a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.served import Served, in_flight, served
from tests.support.program import PROGRAM, Done, Program
from tests.support.servers import ValkeyServer, free_port
from tests.support.waiting import until


def failed(done: Done, says: str) -> None:
    """Fails unless it exited with 1 and one line that has the text."""
    assert (done.code, done.out) == (1, ""), done
    (line,) = done.err.splitlines()
    assert says in line


def assert_probed(running: Served, question: str) -> None:
    """The answer becomes yes: on a busy machine one may come later than a probe waits."""
    until(lambda: running.program.run("probe", question) == Done(0, f"{question}\n", ""))


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Another program, which sends this to each client; its address."""

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "localhost:0"])
def test_a_process_is_found_by_its_data_directory(tmp_path: Path, address: str) -> None:
    with served(tmp_path, COUTURECAST_HTTP=address) as running:
        for question in ("live", "ready"):
            assert_probed(running, question)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
        failed(running.program.run("probe", "live"), "not live: no process runs in")


def test_the_health_check_of_a_container_needs_no_option(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        environment = running.program.environment | {"COUTURECAST_DATA_DIR": str(running.program.data_dir)}

        def ask(question: str) -> tuple[int, str, str]:
            command = [str(PROGRAM), "probe", question]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr

        for question in (
            "live",
            "ready",
        ):  # a container's health check asks again, too: a busy machine may be late
            answers = (ask(question) for _ in range(10))
            assert (0, f"{question}\n", "") in answers
        running.process.kill()
        running.process.wait()
        code, out, err = ask("ready")
        assert (code, out) == (1, "")
        assert err.startswith("error: not ready: no process runs in ")


def test_a_drain_is_live_and_not_ready(tmp_path: Path) -> None:
    with (
        served(tmp_path, handler="slow", COUTURECAST_DRAIN_SECONDS="60") as running,
        running.client() as client,
    ):
        accepted = client.post("/api/v1/queues/color-extraction/jobs", json={"data": {"seconds": 60}})
        assert accepted.status_code == 202
        until(lambda: in_flight(client) == 1)
        running.process.send_signal(signal.SIGTERM)
        running.event("draining")
        assert_probed(running, "live")
        failed(running.program.run("probe", "ready"), "not ready: draining")


@pytest.mark.slow
def test_a_process_whose_redis_is_gone_is_live_and_not_ready(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "redis")
    server.start()
    try:
        with served(tmp_path, REDIS_URL=server.url) as running:
            assert_probed(running, "ready")
            server.kill()
            until(lambda: running.program.run("probe", "ready").code == 1)  # an answer is reused for a second
            failed(running.program.run("probe", "ready"), "not ready: Redis")
            assert_probed(running, "live")
    finally:
        server.stop()


def test_a_killed_process_is_not_live_although_its_file_is_there(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        running.process.kill()
        running.process.wait()
        assert list((running.program.data_dir / "processes").iterdir())
        failed(running.program.run("probe", "live"), "not live: no process runs in")


def test_a_frozen_process_is_neither(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        assert_probed(running, "live")
        os.kill(running.process.pid, signal.SIGSTOP)
        for question in ("live", "ready"):
            failed(running.program.run("probe", question), "does not answer within 1.")
        os.kill(running.process.pid, signal.SIGCONT)


async def test_without_http_it_says_so(program: Program) -> None:
    started = await program.start("--no-http")
    done = await asyncio.to_thread(program.run, "probe", "live")
    failed(done, f"not live: process {started.process.pid} serves no HTTP: start it with --http HOST:PORT")
    assert await started.stop() == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\n\r\n{"ready": "yes"}',
        b'HTTP/1.1 200 OK\r\n\r\n{"ready": true, "reasons": "none"}',
        b"HTTP/1.1 200 OK\r\n\r\n" + b"{" * 200_000,
    ],
)
def test_another_program_is_not_ready(program: Program, answer: bytes) -> None:
    with answering(answer) as address:
        failed(program.run("probe", "ready", "--http", address), f"{address}: another program answers")


def test_an_address_without_a_listener_is_not_live(program: Program) -> None:
    address = f"127.0.0.1:{free_port()}"
    failed(program.run("probe", "live", "--http", address), f"{address} does not answer (Connection refused)")


def test_control_characters_of_another_program_are_escaped(program: Program) -> None:
    answer = b'HTTP/1.1 503 X\r\n\r\n{"ready": false, "reasons": ["\\u001b[31m\\nred"]}'
    with answering(answer) as address:
        done = program.run("probe", "ready", "--http", address)
        assert done.code == 1
        assert "\x1b" not in done.err


@pytest.mark.parametrize("arguments", [("probe",), ("probe", "well"), ("probe", "live", "--http", "x")])
def test_a_wrong_probe_is_a_usage_error(program: Program, arguments: tuple[str, ...]) -> None:
    done = program.run(*arguments)
    assert done.code == 2
    assert len(done.errors) == 1
