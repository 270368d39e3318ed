"""CPU-bound work in other processes, which are killed and replaced when their time is over."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process, resource_tracker
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import pebble
import structlog
from pebble import ProcessExpired

from workers.handlers.pool_process import PoolContext, PoolProcess, PoolStack

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PARENT_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_TRIES = 3  # of a call that had not begun when the pool broke
_CALL_BYTES = 1280 << 20
"""Bytes that a call may add to its process's address space: twice what a picture may take to decode."""
_LOST_SECONDS = 20.0
"""A call that waits longer although a process is free is lost: pebble has lost a process."""
_OUT_OF_MEMORY_EXIT_CODE = 99


_calls_of_tasks: WeakKeyDictionary[asyncio.Task[Any], tuple[pebble.ProcessPool, Future[Any]]] = (
    WeakKeyDictionary()
)
"""The call for which a task waits."""


class PoolProcessDiedError(Exception):
    """A process of the pool died while it worked; only its own call fails."""


class PoolMemoryError(PoolProcessDiedError):
    """A call needed more memory than a call may have; its process was replaced."""


class CpuPool:
    """``processes`` processes, started when the first call comes.

    Cancelling a call that runs kills its process, whatever it is doing; another takes its place.
    """

    def __init__(self, processes: int, *, call_bytes: int = _CALL_BYTES) -> None:
        self._processes = processes
        self._call_bytes = call_bytes
        self._pool: pebble.ProcessPool | None = None
        self._calls: dict[pebble.ProcessPool, set[Future[Any]]] = {}
        """Calls that run or wait in each pool: in that of new calls, and in those that have lost one."""
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function(*args, **kwargs)`` in a process of the pool; all of it must be picklable.

        Raises what the function raises, PoolProcessDiedError, PoolMemoryError for a call that takes more than
        ``call_bytes`` of memory (on Linux), and RuntimeError after `close`.
        """
        for _ in range(_TRIES):
            try:
                result = await self._result(self._schedule(function, args, kwargs))
            except ProcessExpired as error:
                if error.exitcode == _OUT_OF_MEMORY_EXIT_CODE:
                    raise PoolMemoryError(
                        f"it needs more than {self._call_bytes >> 20} MiB of memory"
                    ) from None
                raise PoolProcessDiedError(
                    f"the process that worked on it died (exit code {error.exitcode})"
                ) from None
            except BrokenProcessPool:  # pebble gives up its pool when an idle process dies
                continue
            return cast(T, result)
        raise PoolProcessDiedError("processes of the pool die before they begin: check the memory limit")

    async def close(self) -> None:
        """Kill what runs and wait until all processes are gone."""
        self._closed = True
        self._pool = None
        for pool in list(self._calls):
            del self._calls[pool]
            pool.stop()
            await asyncio.to_thread(pool.join)

    async def _result(self, scheduled: tuple[pebble.ProcessPool, Future[Any]]) -> Any:
        """Return the result of a call.

        Raises BrokenProcessPool if the call is lost: then its pool gets no more.
        """
        pool, call = scheduled
        result = asyncio.wrap_future(call)
        task = asyncio.current_task()
        if task is not None:
            _calls_of_tasks[task] = scheduled
        try:
            while not (await asyncio.wait({result}, timeout=_LOST_SECONDS))[0]:
                calls = self._calls.get(pool, set())
                if not call.running() and sum(other.running() for other in calls) < self._processes:
                    log.warning("a call was lost: its processes are replaced", waited=_LOST_SECONDS)
                    self._pool = None if self._pool is pool else self._pool
                    raise BrokenProcessPool
            return await result
        finally:
            result.cancel()
            if task is not None:
                _calls_of_tasks.pop(task, None)
            self._calls.get(pool, set()).discard(call)
            self._stop_replaced()

    def _stop_replaced(self) -> None:
        """Stop the pools that get no more calls once none runs there."""
        for pool, calls in list(self._calls.items()):
            if pool is not self._pool and not any(call.running() for call in calls):
                del self._calls[pool]
                pool.stop()
                threading.Thread(target=pool.join, daemon=True).start()

    def _schedule(
        self, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> tuple[pebble.ProcessPool, Future[Any]]:
        if self._closed:
            raise RuntimeError("the process pool is closed")
        if self._pool is not None and not self._pool.active:
            self._pool = None
            self._stop_replaced()
        arguments = (self._call_bytes, function, args, kwargs)
        if self._pool is None:
            self._pool = pebble.ProcessPool(
                max_workers=self._processes,
                initializer=_prepare,
                initargs=(os.getpid(),),
                context=PoolContext(),
            )
            self._calls[self._pool] = set()
            # Pebble's threads inherit the blocked signals, and all processes inherit them from these threads.
            with _blocked_signals(_PARENT_SIGNALS):
                call = self._pool.schedule(_call, args=arguments)
        else:
            call = self._pool.schedule(_call, args=arguments)
        self._calls[self._pool].add(call)
        return self._pool, call


async def stack_of_call(task: asyncio.Task[Any]) -> PoolStack | None:
    """Return where the call stands for which a task waits; None if it waits for none, or that has not begun.

    Pebble's API does not tell which of its processes runs a call, so this reads its private tables.
    """
    if task not in _calls_of_tasks:
        return None
    pool, call = _calls_of_tasks[task]
    manager = pool._pool_manager
    pids = [entry.worker_id for entry in list(manager.task_manager.tasks.values()) if entry.future is call]
    process = manager.worker_manager.workers.get(pids[0]) if pids else None
    return await process.stack() if isinstance(process, PoolProcess) else None


@contextmanager
def _blocked_signals(signals: set[signal.Signals]) -> Iterator[None]:
    """Block ``signals`` for processes and threads that are started in the block.

    Ctrl-C in a terminal and a service manager's SIGTERM reach the whole process group, but the parent
    decides for how long its children continue.
    """
    resource_tracker.ensure_running()  # otherwise the first process starts it, and that unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(parent: int) -> None:
    """Make the child end with the parent, even in the midst of C code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_follow_parent, daemon=True).start()
    if os.getppid() != parent:  # it died before we could ask for its signal
        os._exit(1)


def _call(call_bytes: int, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Call ``function``, in the child, with a bounded amount of memory.

    The process ends if that is too little: C libraries leak, and worse, if an allocation fails.
    """
    try:
        with _limited_memory(call_bytes):
            return function(*args, **kwargs)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY_EXIT_CODE)


PoolProcess.call_code = _call.__code__


@contextmanager
def _limited_memory(call_bytes: int) -> Iterator[None]:
    """Limit memory, from what the process has now: NumPy alone maps more on a machine with more cores."""
    if sys.platform != "linux":  # macOS accepts the limit and ignores it
        yield
        return
    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + call_bytes
    limits = [size, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
