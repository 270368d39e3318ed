"""What handlers import of the appliance, and the process that they run in.

Runs in the interpreter of a team: standard library only, Python 3.9 or newer.  The appliance starts this file
as a program; it imports the team's function and runs jobs, which come over a socket.

A message is a length (4 bytes, big-endian) and a JSON object.  To this process: ``run`` (a list of jobs),
``cancel`` (a number), ``stack`` (a number), ``answer`` (to an ``ask``), ``end``.  From it: ``ready`` or
``refused``, then ``ended`` (a list of results and errors, by the number of the job), ``ask`` (update a job,
enqueue one), ``lines`` (of a job, or of none: number 0), ``stack``.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import importlib
import inspect
import io
import json
import logging
import mmap
import os
import platform
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Generator
from typing import Any

__all__ = ["JobCancelledError", "PermanentError", "run_for_test"]

_LENGTH = struct.Struct(">I")
_NUMBER = struct.Struct("=q")
_CANCELLED = "cancelled"
_LINES_SECONDS = 0.1
"""Between two messages with lines of one job."""
_MAX_LINES = 20
"""Of a job in one message: the newest."""
_MAX_LINE_CHARS = 500
_MAX_TRACEBACK_CHARS = 8_000
_MAX_MESSAGE_CHARS = 2_000
_MAX_FRAMES = 60
_PR_SET_PDEATHSIG = 1  # prctl(2)


class PermanentError(Exception):
    """A handler raises it when another attempt cannot help: the job becomes a dead letter at once."""


class JobCancelledError(BaseException):
    """Raised in a plain ``def`` handler whose job is cancelled: by its timeout, a drain or an abort."""


class Job:
    """The job that a handler runs; its names are those of SAQ's ``Job``."""

    def __init__(self, facts: dict[str, Any], ask: Callable[..., Any]) -> None:
        self.key: str = facts["key"]
        self.function: str = facts["function"]
        self.kwargs: dict[str, Any] = facts.get("kwargs") or {}
        self.attempts: int = facts.get("attempts", 1)
        """From 1 on."""
        self.meta: dict[str, Any] = facts.get("meta") or {}
        self.queue: str = facts.get("queue", "")
        """The name of its queue."""
        self.id: str = facts.get("id", self.key)
        self.timeout: float | None = facts.get("timeout")
        """Seconds that its queue allows."""
        self._ask = ask

    def update(self, **fields: Any) -> Any:
        """Store ``progress`` (0 to 1) or ``meta`` while the job runs; awaited in an ``async def`` handler."""
        for name in fields:
            if name not in ("meta", "progress"):
                raise TypeError(f"update: {name}: use meta or progress")
        if "meta" in fields:
            self.meta = fields["meta"]
        return self._ask("update", fields)


class Queue:
    """Enqueues jobs, of any queue: the function names it."""

    def __init__(self, name: str, ask: Callable[..., Any]) -> None:
        self.name = name
        self._ask = ask

    def enqueue(self, function: str, *, key: str | None = None, scheduled: float = 0, **kwargs: Any) -> Any:
        """Enqueue a job of ``function``, which names its queue; its key, or None if one with it waits.

        ``scheduled``: Unix time before which it does not start.  Awaited in an ``async def`` handler.
        """
        return self._ask(
            "enqueue", {"function": function, "key": key, "scheduled": scheduled, "kwargs": kwargs}
        )


def run_for_test(function: Callable[..., Any], *, attempt: int = 1, **payload: Any) -> Any:
    """Run a handler as a job with this payload, without an appliance; returns its result.

    Raises what the handler raises.  ``ctx["job"].update`` and ``ctx["queue"].enqueue`` do nothing.
    """
    is_async = inspect.iscoroutinefunction(function)

    async def answer() -> str:
        return "test"

    def ask(_verb: str, _fields: dict[str, Any]) -> Any:
        return answer() if is_async else "test"

    facts = {"key": "test", "function": getattr(function, "__name__", "test"), "attempts": attempt}
    context = {"job": Job({**facts, "kwargs": payload}, ask), "queue": Queue("test", ask)}
    json.dumps(payload)
    result = function(context, **payload)
    if is_async:
        result = asyncio.run(result)
    json.dumps(result)
    return result


# The process


_current: contextvars.ContextVar[int] = contextvars.ContextVar("job", default=0)
"""The number of the job whose code runs."""


class _Wire:
    """Messages over the socket; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        if os.getpid() != self._pid:  # a child that a handler forked
            os._exit(1)
        try:
            with self._lock:
                self._connection.sendall(_LENGTH.pack(len(body)) + body)
        except OSError:  # the appliance is gone, or a handler has closed the socket
            os._exit(1)

    def messages(self) -> Generator[dict[str, Any], None, None]:
        """Every message until the appliance closes the connection."""
        file = self._connection.makefile("rb", buffering=1 << 16)
        while True:
            head = file.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return
            body = file.read(_LENGTH.unpack(head)[0])
            yield json.loads(body)


class _Lines:
    """The newest lines of each job, sent a few times a second: a flood costs the appliance nothing."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._waiting: dict[int, collections.deque[Any]] = {}
        self._dropped: dict[int, int] = {}
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="couturecast-lines", daemon=True).start()

    def add(self, level: str, text: str) -> None:
        number = _current.get()
        with self._lock:
            lines = self._waiting.setdefault(number, collections.deque())
            lines.append([time.time(), level, text[:_MAX_LINE_CHARS]])
            if len(lines) > _MAX_LINES:
                lines.popleft()
                self._dropped[number] = self._dropped.get(number, 0) + 1
        self._wake.set()

    def flush(self, number: int) -> None:
        """Send what waits for one job, before its end is told."""
        if number in self._waiting:
            with self._lock:
                lines, dropped = self._waiting.pop(number, None), self._dropped.pop(number, 0)
            if lines:
                self._wire.send({"lines": [number, list(lines), dropped]})

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_LINES_SECONDS)
            self._wake.clear()
            for number in list(self._waiting):
                self.flush(number)


class _Stream(io.TextIOBase):
    """Standard output or error: each line belongs to the job that prints it."""

    def __init__(self, lines: _Lines, level: str, descriptor: int) -> None:
        self._lines = lines
        self._level = level
        self._descriptor = descriptor
        self._partial: dict[int, str] = {}

    encoding = "utf-8"
    errors = "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        """Stays open: it is the process', not the handler's."""

    def write(self, text: str) -> int:
        number = _current.get()
        *whole, rest = (self._partial.pop(number, "") + str(text)).split("\n")
        for line in whole[-_MAX_LINES:]:
            self._lines.add(self._level, line)
        if rest:
            self._partial[number] = rest[-_MAX_LINE_CHARS:]
        return len(text)

    def finish(self, number: int) -> None:
        """The job has ended: what it printed without the end of a line is a line."""
        rest = self._partial.pop(number, "")
        if rest:
            self._lines.add(self._level, rest)


class _LogHandler(logging.Handler):
    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        except Exception:  # of what a handler logs
            text = f"a line of {record.name} that cannot be formatted"
        self._lines.add(record.levelname.lower(), text)


class _Process:
    """Runs the jobs of one function."""

    def __init__(self, wire: _Wire, function: Callable[..., Any], queue: str, culprit: mmap.mmap) -> None:
        self.wire = wire
        self.function = function
        self.queue = queue
        self.lines = _Lines(wire)
        self._culprit = culprit
        self._asked: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._asks = 0
        self._lock = threading.Lock()
        self.streams = [_Stream(self.lines, "info", 1), _Stream(self.lines, "error", 2)]
        sys.stdout, sys.stderr = self.streams
        if not logging.getLogger().handlers:
            logging.getLogger().addHandler(_LogHandler(self.lines))
            logging.getLogger().setLevel(logging.INFO)

    def mark(self, number: int) -> None:
        """Note whose code runs, for the appliance to read if this process dies."""
        _NUMBER.pack_into(self._culprit, 0, number)

    def finish(self, number: int) -> None:
        for stream in self.streams:
            stream.finish(number)
        self.lines.flush(number)

    def ask(
        self, number: int, verb: str, fields: dict[str, Any], done: Callable[[dict[str, Any]], None]
    ) -> None:
        with self._lock:
            self._asks += 1
            asked = self._asks
            self._asked[asked] = done
        try:
            self.wire.send({"ask": [asked, number, verb, fields]})
        except (TypeError, ValueError):
            del self._asked[asked]
            raise

    def answered(self, answer: list[Any]) -> None:
        done = self._asked.pop(answer[0], None)
        if done is not None:
            done(answer[1])

    def read(self) -> None:
        """Obey the appliance, in a thread of its own, whatever the handlers do; ends the process."""
        try:
            for message in self.wire.messages():
                if "run" in message:
                    self.run(message["run"])
                elif "cancel" in message:
                    self.cancel(message["cancel"])
                elif "answer" in message:
                    self.answered(message["answer"])
                elif "stack" in message:
                    self.wire.send({"stack": [message["stack"][0], self.stack(message["stack"][1])]})
                elif "end" in message:
                    break
        finally:
            os._exit(0)

    def run(self, jobs: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def cancel(self, number: int) -> None:
        raise NotImplementedError

    def stack(self, number: int) -> list[Any]:
        raise NotImplementedError


class _AsyncProcess(_Process):
    """Runs ``async def`` handlers, many at once, in one event loop."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._ended: list[list[Any]] = []
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_task_factory(self._make_task)

    def serve(self) -> None:
        threading.Thread(target=self.read, name="couturecast-wire", daemon=True).start()
        while True:
            try:
                self.loop.run_forever()  # a handler may stop it
            except OSError:  # a handler has closed what the loop needs
                os._exit(1)
            except BaseException:
                traceback.print_exc()

    def run(self, jobs: list[dict[str, Any]]) -> None:
        self.loop.call_soon_threadsafe(self._start, jobs)

    def cancel(self, number: int) -> None:
        self.loop.call_soon_threadsafe(self._cancel, number)

    def stack(self, number: int) -> list[Any]:
        running = _NUMBER.unpack_from(self._culprit, 0)[0]
        if running == number:
            frame = sys._current_frames().get(threading.main_thread().ident or 0)
            return _frames(traceback.walk_stack(frame))[::-1]
        task = self._tasks.get(number)
        return [] if task is None else _coroutine_frames(task)

    def _start(self, jobs: list[dict[str, Any]]) -> None:
        for facts in jobs:
            context = contextvars.copy_context()
            context.run(_current.set, facts["number"])
            task = context.run(self.loop.create_task, self._attempt(facts["number"], facts))
            self._tasks[facts["number"]] = task

    def _cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is None:
            return
        task.cancel()

    async def _attempt(self, number: int, facts: dict[str, Any]) -> None:
        def ask(verb: str, fields: dict[str, Any]) -> Any:
            return self._ask(number, verb, fields)

        try:
            context = {"job": Job(facts, ask), "queue": Queue(self.queue, ask)}
            result = await self.function(context, **(facts.get("kwargs") or {}))
            self._end([number, "done", _checked(result)])
        except asyncio.CancelledError as error:
            self._end([number, _CANCELLED, _describe(error)])
        except GeneratorExit:
            raise
        except BaseException as error:
            self._end([number, "failed", _describe(error)])

    def _end(self, ended: list[Any]) -> None:
        self._tasks.pop(ended[0], None)
        self.finish(ended[0])
        if not self._ended:
            self.loop.call_soon(self._flush)
        self._ended.append(ended)

    def _flush(self) -> None:
        ended, self._ended = self._ended, []
        self.wire.send({"ended": ended})

    async def _ask(self, number: int, verb: str, fields: dict[str, Any]) -> Any:
        answered = self.loop.create_future()

        def done(answer: dict[str, Any]) -> None:
            self.loop.call_soon_threadsafe(_resolve, answered, answer)

        self.ask(number, verb, fields, done)
        return _answer(await answered)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """Each task of a job, wherever it is made, marks the job while its code runs."""
        number = _current.get()
        if number and inspect.iscoroutine(coroutine):
            coroutine = self._marked(number, coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    @types.coroutine
    def _marked(self, number: int, coroutine: Any) -> Any:
        """Run a coroutine step by step."""
        mark, send, throw = self.mark, coroutine.send, coroutine.throw
        step, value = send, None
        while True:
            mark(number)
            try:
                waited_for = step(value)
            except StopIteration as end:
                return end.value
            finally:
                mark(0)
            try:
                value = yield waited_for
                step = send
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:
                step, value = throw, error


class _SyncProcess(_Process):
    """Runs plain ``def`` handlers, one job at a time, in the main thread."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._jobs: collections.deque[Any] = collections.deque()
        self._arrived = threading.Semaphore(0)
        self._number = 0

    def serve(self) -> None:
        threading.Thread(target=self.read, name="couturecast-wire", daemon=True).start()
        while True:
            try:
                self._arrived.acquire()
                facts = self._jobs.popleft()
                self.wire.send({"ended": [self._attempt(facts["number"], facts)]})
            except JobCancelledError:  # too late: its job has ended
                continue

    def run(self, jobs: list[dict[str, Any]]) -> None:
        for facts in jobs:
            self._jobs.append(facts)
            self._arrived.release()

    def cancel(self, number: int) -> None:
        if self._number == number:
            _raise_in_main_thread(JobCancelledError)

    def stack(self, number: int) -> list[Any]:
        if number != self._number:
            return []
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        return _frames(traceback.walk_stack(frame))[::-1]

    def _attempt(self, number: int, facts: dict[str, Any]) -> list[Any]:
        def ask(verb: str, fields: dict[str, Any]) -> Any:
            return self._ask(number, verb, fields)

        ended: list[Any] = [number, _CANCELLED, None]
        _current.set(number)
        self._number = number
        self.mark(number)
        try:
            try:
                context = {"job": Job(facts, ask), "queue": Queue(self.queue, ask)}
                result = self.function(context, **(facts.get("kwargs") or {}))
                ended = [number, "done", _checked(result)]
            except JobCancelledError as error:
                ended = [number, _CANCELLED, _describe(error)]
            except BaseException as error:
                ended = [number, "failed", _describe(error)]
            self._number = 0
        except JobCancelledError:
            self._number = 0
        self.mark(0)
        self.finish(number)
        _current.set(0)
        return ended

    def _ask(self, number: int, verb: str, fields: dict[str, Any]) -> Any:
        answers: collections.deque[Any] = collections.deque()
        arrived = threading.Event()

        def done(answer: dict[str, Any]) -> None:
            answers.append(answer)
            arrived.set()

        self.ask(number, verb, fields, done)
        while not arrived.wait(0.5):  # short, so that a cancellation gets in
            pass
        return _answer(answers[0])


def _raise_in_main_thread(error: type) -> None:
    import ctypes

    ident = ctypes.c_ulong(threading.main_thread().ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(error))


def _resolve(future: asyncio.Future[Any], answer: dict[str, Any]) -> None:
    if not future.done():
        future.set_result(answer)


def _answer(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer.get("result")


def _checked(result: Any) -> Any:
    """A result that JSON has.  Raises TypeError, which names the type, for any other."""
    try:
        json.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the result cannot be written as JSON: {error}") from None
    return result


def _describe(error: BaseException) -> dict[str, Any]:
    """What is recorded of an error, as the appliance records its own."""
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__
    if module not in ("builtins", __name__, "couturecast_handlers"):
        name = f"{module}.{name}"
    try:
        message = str(error)
    except Exception:
        message = ""
    try:
        trace = "".join(traceback.format_exception(kind, error, _own_part(error.__traceback__)))
    except Exception as unwritable:
        trace = f"the traceback cannot be written: {type(unwritable).__name__}"
    return {
        "type": name,
        "message": message[:_MAX_MESSAGE_CHARS],
        "traceback": trace[-_MAX_TRACEBACK_CHARS:],
        "frame": _handler_frame(error),
        "permanent": isinstance(error, PermanentError),
    }


def _own_part(trace: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without the frames of this file at its beginning."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in (
        __name__,
        "couturecast_handlers",
    ):
        trace = trace.tb_next
    return trace


def _handler_frame(error: BaseException) -> str | None:
    """The innermost frame that is the team's code, as ``module:function``."""
    innermost, trace = None, error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__")
        library = any(part in code.co_filename for part in ("site-packages", "dist-packages"))
        standard = code.co_filename.startswith((os.path.dirname(os.__file__), "<"))
        if isinstance(module, str) and module != __name__ and not library and not standard:
            innermost = f"{module}:{getattr(code, 'co_qualname', code.co_name)}"
        trace = trace.tb_next
    return innermost


def _frames(walked: Any) -> list[Any]:
    found = []
    for frame, line in walked:
        code = frame.f_code
        if code.co_filename != __file__:
            found.append([code.co_filename, line or 0, getattr(code, "co_qualname", code.co_name)])
    return found[:_MAX_FRAMES]


def _coroutine_frames(task: asyncio.Task[Any]) -> list[Any]:
    """The frames of a suspended task and of what it waits for, the outermost first."""
    found: list[Any] = []
    awaited: Any = task.get_coro()
    for _ in range(_MAX_FRAMES * 4):
        if inspect.isgenerator(awaited) and awaited.gi_frame is not None:
            inner = awaited.gi_frame.f_locals.get("coroutine")  # of `_marked`
            awaited = inner if inner is not None else awaited.gi_yieldfrom
            continue
        frame, after = getattr(awaited, "cr_frame", None), getattr(awaited, "cr_await", None)
        if frame is not None:
            found += _frames([(frame, frame.f_lineno)])
        if isinstance(after, asyncio.Task):
            after = after.get_coro()
        if after is None:
            break
        awaited = after
    return found[-_MAX_FRAMES:]


def _import(name: str, folders: list[str]) -> Callable[..., Any]:
    """The function ``module:function``.  Raises ImportError, in one line."""
    sys.path[:0] = folders
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            found = getattr(found, step)
    except BaseException as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImportError(f"{name!r} cannot be imported: {cause}") from error
    if not callable(found):
        raise ImportError(f"{name!r} is no function")  # noqa: TRY004 - what a wrong name gives
    return found  # type: ignore[no-any-return]


def _end_with_parent() -> None:
    """Have the system kill this process with the appliance, even while a handler holds the GIL."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_signals_to_the_appliance() -> None:
    """It ends this process.  What a handler forks obeys signals again, from its first instant on."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def before() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def after_in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def after_in_child() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)


def _main() -> None:
    """Arguments: the descriptors of socket and shared memory, the queue, ``module:function``, folders."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    culprit = mmap.mmap(int(sys.argv[2]), mmap.PAGESIZE)
    queue, name, folders = sys.argv[3], sys.argv[4], sys.argv[5:]
    os.set_inheritable(connection.fileno(), False)
    os.set_inheritable(int(sys.argv[2]), False)
    parent = os.getppid()
    _end_with_parent()
    if os.getppid() != parent:
        os._exit(0)
    _leave_signals_to_the_appliance()
    # Not the folder of this file: it is full of the appliance's packages.
    del sys.path[0]
    sys.modules["couturecast_handlers"] = sys.modules[__name__]
    sys.argv[1:] = []
    wire = _Wire(connection)
    try:
        function = _import(name, folders)
    except ImportError as error:
        wire.send({"refused": str(error)})
        os._exit(1)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object that can be called
    )
    process = (_AsyncProcess if is_async else _SyncProcess)(wire, function, queue, culprit)
    try:
        signature = str(inspect.signature(function))
    except (TypeError, ValueError):
        signature = "(...)"
    wire.send(
        {
            "ready": {
                "async": is_async,
                "python": platform.python_version(),
                "signature": signature,
                "pid": os.getpid(),
            }
        }
    )
    process.serve()


if __name__ == "__main__":
    _main()
