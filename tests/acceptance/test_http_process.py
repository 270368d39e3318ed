"""HTTP in the life of the program: address, token, drain, read-only mode, servers that go away."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.served import QUEUE, Served, assert_problem, in_flight, served
from tests.support.program import OpenTerminal, Program
from tests.support.servers import ValkeyServer, free_port
from tests.support.waiting import until

JOBS = f"/api/v1/queues/{QUEUE}/jobs"
DRAIN = "/api/v1/admin/drain"
HEALTH = "/api/v1/health/queues"
DEFAULT_PORT = 8020


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """The port of the loopback is somebody's."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else's, which is as good
            holder.bind(("127.0.0.1", port))
            holder.listen()
        yield


# address


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--http", "here"), "--http: 'here' is not HOST:PORT: use for instance 127.0.0.1:8020"),
        (("--http", ":8020"), "--http: ':8020' is not HOST:PORT"),
        (("--http", "::1:8020"), "--http: '::1:8020' is not HOST:PORT"),
        (("--http", "127.0.0.1:65536"), "--http: '127.0.0.1:65536': ports end at 65535"),
        (("--http", "127.0.0.1:8021", "--no-http"), "--http and --no-http exclude each other: drop one"),
        (("--http", "192.0.2.1:8021"), "--http: 192.0.2.1:8021 cannot be used (Cannot assign"),
        (("--http", "nowhere.invalid:8021"), "nowhere.invalid:8021 cannot be used"),
    ],
)
def test_a_bad_address_is_one_line(program: Program, arguments: tuple[str, ...], says: str) -> None:
    done = program.run("--no-ui", *arguments)
    assert done.code == 2
    (line,) = done.errors
    assert says in line


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("COUTURECAST_HTTP", "8020", "COUTURECAST_HTTP: '8020' is not HOST:PORT: use for instance"),
        ("COUTURECAST_ADMIN_TOKEN", "short", "is not a token: use 16 or more"),
        ("COUTURECAST_ADMIN_TOKEN", "with spaces in between", "is not a token: use 16 or more"),
    ],
)
def test_a_bad_setting_is_one_line(program: Program, variable: str, value: str, says: str) -> None:
    done = program.run("--no-ui", **{variable: value})
    assert done.code == 2
    (line,) = done.errors
    assert says in line
    assert variable == "COUTURECAST_HTTP" or value not in done.err


def test_commands_refuse_the_flags_of_http(program: Program) -> None:
    for flags in (("--no-http",), ("--http", "127.0.0.1:0")):
        assert program.run(*flags, "status").code == 2


def test_a_named_address_that_is_taken_is_an_error(program: Program) -> None:
    port = free_port()
    with taken(port):
        done = program.run("--no-ui", "--http", f"127.0.0.1:{port}")
    assert done.code == 2
    (line,) = done.errors
    assert f"127.0.0.1:{port} cannot be used (Address already in use): name another address" in line
    assert done.out == ""


def test_without_its_default_address_it_runs_and_warns(tmp_path: Path) -> None:
    with taken(DEFAULT_PORT), served(tmp_path, COUTURECAST_HTTP="") as running:
        logged = running.event("no HTTP")
        assert logged["level"] == "warning"
        assert "--http HOST:PORT" in logged["event"]
        assert "127.0.0.1:8020 cannot be used" in logged["cause"]
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
        assert "http answers" not in running.log


def test_no_http_turns_http_off(tmp_path: Path) -> None:
    with served(tmp_path, "--no-http", COUTURECAST_HTTP="127.0.0.1:0") as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
        assert "http answers" not in running.log
        assert not (running.program.data_dir / "admin-token").exists()


@pytest.mark.parametrize("address", ["[::1]:0", "localhost:0"])
def test_it_answers_at_the_logged_address(tmp_path: Path, address: str) -> None:
    with served(tmp_path, "--http", address) as running, running.client() as client:
        assert running.url.startswith("http://[::1]:" if "::1" in address else "http://")
        assert client.get("/readyz").status_code == 200


def test_it_can_be_started_again_at_once_on_its_address(tmp_path: Path) -> None:
    port = free_port()
    for _ in range(2):
        with served(tmp_path, "--http", f"127.0.0.1:{port}") as running:
            with running.client() as client:
                assert client.get("/readyz").status_code == 200
            running.process.send_signal(signal.SIGTERM)
            assert running.ended() == 0


@pytest.mark.slow
def test_a_command_loads_nothing_of_http() -> None:
    modules = {"fastapi", "starlette", "uvicorn"}
    code = f"import sys, app.cli.main, app.process.run; print(*({modules} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# token


def test_a_token_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        token = running.token
        with running.client() as client:
            assert_problem(client.post(JOBS), 415)
        file = running.program.data_dir / "admin-token"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(token) >= 43
        file.chmod(0o644)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
        assert token not in running.log
    with served(tmp_path) as again, again.client(token=token) as client:
        assert_problem(client.post(JOBS), 415)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_of_the_settings_is_the_only_one(tmp_path: Path) -> None:
    token = "sixteen-letters."
    with served(tmp_path, COUTURECAST_ADMIN_TOKEN=token, COUTURECAST_LOG_LEVEL="debug") as running:
        with running.client(token=token) as client:
            assert_problem(client.post(JOBS), 415)
        assert not (running.program.data_dir / "admin-token").exists()
        assert token not in running.log


def test_two_that_start_at_once_agree_on_a_token(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        starting = [pool.submit(Served, program) for _ in range(2)]
    both = [start.result() for start in starting]
    try:
        for running in both:
            with running.client() as client:
                assert_problem(client.post(JOBS), 415)
    finally:
        for running in both:
            running.process.send_signal(signal.SIGTERM)
        assert [running.ended() for running in both] == [0, 0]
        for running in both:
            running.close()


@pytest.mark.parametrize("content", ["short\n", "two words which are long\n"])
def test_a_file_without_a_token_is_one_line(program: Program, content: str) -> None:
    program.data_dir.mkdir()
    (program.data_dir / "admin-token").write_text(content)
    done = program.run("--no-ui", COUTURECAST_HTTP="127.0.0.1:0")
    assert done.code == 2
    (line,) = done.errors
    assert "admin-token holds no token of 16 characters or more: remove it" in line
    assert content.strip() not in done.err


def test_a_link_is_refused_as_a_token_file(program: Program, tmp_path: Path) -> None:
    program.data_dir.mkdir()
    (tmp_path / "elsewhere").write_text("a token of somebody else\n")
    os.symlink(tmp_path / "elsewhere", program.data_dir / "admin-token")
    done = program.run("--no-ui", COUTURECAST_HTTP="127.0.0.1:0")
    assert done.code == 2
    assert "admin-token cannot be used" in done.errors[0]


def test_an_empty_file_gets_a_token(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin-token").touch()
    with served(tmp_path) as running, running.client() as client:
        assert_problem(client.post(JOBS), 415)


# drain


def test_a_drain_begins_at_once_and_the_program_exits(tmp_path: Path) -> None:
    with served(tmp_path) as running, running.client() as client:
        answer = client.post(DRAIN)
        assert answer.status_code == 202
        assert answer.json()["in_flight"] == 0
        assert running.ended() == 0


@pytest.mark.slow
def test_a_drain_with_wait_is_answered_at_its_end(tmp_path: Path) -> None:
    with served(tmp_path, handler="slow") as running, running.client() as client:
        assert client.post(JOBS, json={"data": {"seconds": 1.5}}).status_code == 202
        until(lambda: in_flight(client) == 1)
        answer = client.post(f"{DRAIN}?wait=20")
        assert answer.status_code == 200
        assert answer.json() == {"drained": True, "in_flight": 0, "deadline_in": None, "put_back": 0}
        assert running.ended() == 0


@pytest.mark.slow
def test_a_drain_of_all_processes_is_answered_with_how_far_each_is(tmp_path: Path) -> None:
    with served(tmp_path) as running, running.client() as client:
        (worker,) = client.get("/api/v1/workers").json()["items"]
        answer = client.post("/api/v1/workers/drain")
        assert answer.status_code == 202
        (drain,) = answer.json()["items"]
        assert (drain["id"], drain["state"], drain["problem"]) == (worker["id"], "draining", "")
        assert running.ended() == 0


@pytest.mark.slow
def test_a_wait_that_ends_before_the_drain_answers_what_still_runs(tmp_path: Path) -> None:
    drained_late = {"COUTURECAST_DRAIN_SECONDS": "4"}
    with served(tmp_path, handler="slow", **drained_late) as running, running.client() as client:
        assert client.post(JOBS, json={"data": {"seconds": 60}}).status_code == 202
        until(lambda: in_flight(client) == 1)
        answer = client.post(f"{DRAIN}?wait=0.2")
        assert answer.status_code == 200
        status = answer.json()
        assert (status["drained"], status["in_flight"], status["put_back"]) == (False, 1, None)
        assert 2 < status["deadline_in"] < 4
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "reasons": ["draining"]})
        assert client.get("/livez").status_code == 200
        for plan in ("retry", "plans/1/run"):
            body: dict[str, object] = {"filter": {}} if plan == "retry" else {}
            answer = client.post(f"/api/v1/admin/failed-jobs/{plan}", json=body)
            assert_problem(answer, 409, "this process drains")
        assert client.post(DRAIN).status_code == 202
        last = client.post(f"{DRAIN}?wait=20")
        assert (last.status_code, last.json()["put_back"]) == (200, 1)
        assert running.ended() == 3


def test_an_open_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    seconds = {"COUTURECAST_DRAIN_SECONDS": "600"}
    with served(tmp_path, **seconds) as running, running.client() as client:
        assert client.get("/livez").status_code == 200  # and the connection is kept
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
        assert "Traceback" not in running.log


@pytest.mark.slow
def test_connections_without_a_request_do_not_keep_others_out(tmp_path: Path) -> None:
    with served(tmp_path) as running, contextlib.ExitStack() as stack:
        place = urlsplit(running.url)

        def connected(sends: bytes) -> socket.socket:
            line = stack.enter_context(
                socket.create_connection((place.hostname, place.port or 0), timeout=30)
            )
            line.sendall(sends)
            return line

        oldest = connected(b"")
        began = time.monotonic()
        others = [connected(b"GET /livez HTTP/1.1\r\nHost: x\r\n" if n % 2 else b"") for n in range(520)]
        with running.client() as client:
            for _ in range(3):
                assert client.get("/livez").status_code == 200
        assert ended_by_peer(oldest)  # it made room
        assert time.monotonic() - began < 8
        others[-2].sendall(b"GET /livez HTTP/1.1\r\n")
        assert ended_by_peer(others[-1])
        assert ended_by_peer(others[-2])
        assert 8 < time.monotonic() - began < 20
        wrong = connected(b"nonsense\r\n\r\n").recv(1_000)
        assert wrong.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in wrong


def ended_by_peer(line: socket.socket) -> bool:
    """Whether nothing comes any more; waits for it."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.slow
def test_a_process_without_workers_refuses_to_drain(tmp_path: Path, terminal: OpenTerminal) -> None:
    port = free_port()
    with a_redis(tmp_path) as url:
        screen = terminal("--no-workers", "--http", f"127.0.0.1:{port}", REDIS_URL=url)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            until(lambda: _answers(client))
            assert client.get("/readyz").json() == {"ready": True, "reasons": []}
            until(lambda: client.get(HEALTH).status_code == 503, within=40)  # no queue has a worker
            token = (tmp_path / "data" / "admin-token").read_text().strip()
            client.headers["Authorization"] = f"Bearer {token}"
            assert_problem(client.post(DRAIN), 409, "runs no workers")
        screen.press("q")
        until(screen.ended)
        assert screen.process.returncode == 0
        log = (tmp_path / "data" / "couturecast-tui.log").read_text()
        assert "http answers" in log
        assert token not in log


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def a_redis(tmp_path: Path) -> Iterator[str]:
    """A Redis of its own."""
    (tmp_path / "valkey").mkdir()
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


# refused, or away


def test_read_only_mode_refuses_actions_after_their_checks(tmp_path: Path) -> None:
    with served(tmp_path, COUTURECAST_READ_ONLY="1") as running, running.client() as client:
        assert_problem(client.post(JOBS, json={"data": {}}), 403, "read-only")
        assert_problem(client.post(DRAIN), 403, "read-only")
        assert_problem(client.post(JOBS, json={}), 422)
        assert client.get("/readyz").status_code == 200


@pytest.mark.slow
def test_without_redis_probes_answer_503_and_actions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    valkey = ValkeyServer(tmp_path / "valkey")
    valkey.start()
    try:
        with served(tmp_path, REDIS_URL=valkey.url) as running, running.client() as client:
            assert client.get("/readyz").status_code == 200
            valkey.kill()
            until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").json()["reasons"] in (
                ["Redis is silent"],
                ["Redis refuses the connection"],
            )
            until(lambda: client.get("/api/v1/health/queues").status_code == 503)
            figures = client.get("/metrics").text
            assert "couturecast_redis_up 0.0" in figures
            assert "couturecast_queue_depth{" not in figures
            answer = client.post(JOBS, json={"data": {}})
            assert_problem(answer, 503, "Redis: ")
            assert answer.headers["retry-after"] == "5"
            assert client.get("/livez").status_code == 200
            valkey.start()
            until(lambda: client.get("/readyz").status_code == 200)
    finally:
        valkey.stop()
