"""The embedded Valkey and SQLite in a data directory, with real processes that share, leave and die."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from app.errors import UsageError
from app.servers.data_dir import prepare_data_dir
from app.servers.embedded_valkey import MAX_SOCKET_PATH, EmbeddedServer
from tests.support.processes import alive
from tests.support.program import Program, client, server_pid, stop_server, total
from tests.support.waiting import eventually

HOLD = """
import sys
from pathlib import Path
from app.servers.embedded_valkey import EmbeddedServer

server = EmbeddedServer(Path(sys.argv[1]))
server.acquire()
print("acquired", flush=True)
sys.stdin.readline()
server.release()
print("released", flush=True)
"""


class User:
    """A process that uses the server of a data directory until it releases it."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def acquired(self) -> User:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "acquired\n"
        return self

    def release(self) -> None:
        out, _ = self.process.communicate("\n", timeout=20)
        assert out == "released\n"
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "data"
    yield directory
    stop_server(directory)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def sockets_of(pid: int) -> set[str]:
    """The sockets of a process, by inode."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
            found |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
    return found


def listening_on_tcp() -> set[str]:
    """All sockets that listen on TCP, by inode."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A"}


def test_it_is_private_and_append_only_and_listens_on_no_tcp_port(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    with server, redis.Redis.from_url(server.url) as valkey:
        options = valkey.config_get()
        assert options["appendonly"] == "yes"
        assert options["port"] == "0"
        assert options["maxmemory-policy"] == "volatile-lru"
        assert (mode(server.socket), mode(server.directory)) == (0o600, 0o700)
        pid = server_pid(data_dir)
        assert pid is not None
        assert sockets_of(pid)
        assert not sockets_of(pid) & listening_on_tcp()
        valkey.set("a", 1)
        files = [path for path in server.directory.rglob("*") if path.is_file()]
        assert [path for path in files if path.suffix == ".aof"]
        assert {path.name: oct(mode(path)) for path in files if mode(path) & 0o077} == {}
    assert not alive(pid)


def test_the_last_user_stops_the_server_and_the_data_survives(data_dir: Path) -> None:
    first, second = User(data_dir).acquired(), User(data_dir).acquired()
    pid = server_pid(data_dir)
    assert pid is not None
    with client(data_dir) as valkey:
        valkey.set("key", "value")
    first.release()
    assert server_pid(data_dir) == pid
    second.release()
    assert not alive(pid)
    User(data_dir).acquired()
    with client(data_dir) as valkey:
        assert valkey.get("key") == b"value"


def test_a_server_whose_user_was_killed_is_adopted_by_the_next_one(data_dir: Path) -> None:
    first = User(data_dir).acquired()
    pid = server_pid(data_dir)
    assert pid is not None
    first.kill()
    assert alive(pid)
    second = User(data_dir).acquired()
    assert server_pid(data_dir) == pid
    second.release()
    assert not alive(pid)


def test_a_killed_server_is_restarted_with_its_data(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    with server:
        pid = server_pid(data_dir)
        assert pid is not None
        assert not server.restart_if_dead()
        with client(data_dir) as valkey:
            valkey.set("key", "value")
            valkey.execute_command("WAITAOF", 1, 0, 5000)
        os.kill(pid, signal.SIGKILL)
        assert server._process is not None
        server._process.wait()
        assert server.restart_if_dead()
        assert server_pid(data_dir) not in (None, pid)
        with client(data_dir) as valkey:
            assert valkey.get("key") == b"value"
    assert server_pid(data_dir) is None


def test_after_a_release_no_server_is_restarted(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    with server:
        pass
    assert not server.restart_if_dead()
    assert server_pid(data_dir) is None


@pytest.mark.slow
async def test_a_running_program_restarts_its_server_and_goes_on(program: Program) -> None:
    started = await program.start()
    pid = server_pid(program.data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: server_pid(program.data_dir) not in (None, pid), what="another server")
    assert (
        program.run("enqueue", "moderation-review", "--data", '{"content_id": "c", "text": "fine"}').code == 0
    )
    await eventually(lambda: total(program.data_dir, "moderation-review", "completed") == 1)
    assert await started.stop() == 0
    assert any("started again" in line["event"] for line in started.logged)
    assert server_pid(program.data_dir) is None


def test_starts_at_the_same_instant_make_one_server(data_dir: Path) -> None:
    users = [User(data_dir) for _ in range(3)]
    for user in users:
        user.acquired()
    pid = server_pid(data_dir)
    assert pid is not None
    log = (data_dir / "valkey" / "valkey.log").read_text()
    assert log.count("Ready to accept connections") == 1
    for user in users:
        user.release()
    assert not alive(pid)


def test_a_very_long_path_gets_a_socket_in_a_short_private_folder(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long-" * 20) / ("longer-" * 20)
    server = EmbeddedServer(data_dir)
    assert len(os.fsencode(server.directory / "redis.sock")) > MAX_SOCKET_PATH
    assert len(os.fsencode(server.socket)) <= MAX_SOCKET_PATH
    assert server.socket == EmbeddedServer(data_dir).socket
    assert server.socket != EmbeddedServer(tmp_path / ("long-" * 20) / "another" / ("longer-" * 20)).socket
    with server, redis.Redis.from_url(server.url) as valkey:
        assert valkey.ping()
        assert (mode(server.socket), mode(server.socket.parent)) == (0o600, 0o700)
        assert list((server.directory / "appendonlydir").iterdir())
    assert server_pid(data_dir) is None


@pytest.mark.parametrize(
    "name", ["with space", "50%41 off", "what?", "a#b", 'quo"te', "back\\slash", "ünï–袍"]
)
def test_the_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    with EmbeddedServer(tmp_path / name) as server, redis.Redis.from_url(server.url) as valkey:
        assert valkey.ping()
        assert list((tmp_path / name / "valkey" / "appendonlydir").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_all_data_is_in_the_directory_whatever_its_name(program: Program) -> None:
    odd = program.data_dir.parent / "50%41 off? #1"
    assert program.run("status", "--data-dir", str(odd)).code == 0
    assert {"couturecast.db", "valkey"} <= {path.name for path in odd.iterdir()}
    assert {path.name for path in odd.parent.iterdir()} == {odd.name, program.directory.name}


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for make in (prepare_data_dir, lambda path: EmbeddedServer(path).acquire()):
        with pytest.raises(UsageError, match=r"cannot be written.*name another data directory"):
            make(tmp_path / "file" / "data")


def test_a_directory_that_takes_no_files_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        prepare_data_dir(Path("/proc/self"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(data_dir: Path) -> None:
    (data_dir / "valkey").mkdir(parents=True)
    os.chown(data_dir / "valkey", 65534, 65534)
    with pytest.raises(UsageError, match="belongs to another user"):
        EmbeddedServer(data_dir).acquire()


def test_a_directory_that_was_open_to_others_is_closed(data_dir: Path) -> None:
    (data_dir / "valkey").mkdir(parents=True, mode=0o755)
    with EmbeddedServer(data_dir) as server:
        assert mode(server.directory) == 0o700


def test_a_failed_start_is_explained(data_dir: Path) -> None:
    with EmbeddedServer(data_dir) as server:
        pass
    (aof,) = (server.directory / "appendonlydir").glob("*.manifest")
    aof.write_text("this is no manifest\n")
    with pytest.raises(Exception, match=r"the embedded Redis did not start: .*manifest.*see .*valkey\.log"):
        server.acquire()


def test_the_database_is_private_and_in_wal_mode(program: Program) -> None:
    assert program.run("status").code == 0
    path = program.data_dir / "couturecast.db"
    assert (mode(path), mode(program.data_dir)) == (0o600, 0o700)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "job_failures" in tables
    connection.close()
