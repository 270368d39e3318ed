"""CPU-bound work in other processes, which are killed and replaced when their time is over."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pebble
from pebble import ProcessExpired

P = ParamSpec("P")
T = TypeVar("T")

_PR_SET_PDEATHSIG = 1  # prctl(2)


class PoolProcessDiedError(Exception):
    """A process of the pool died while it worked; only its own call fails."""


class CpuPool:
    """``processes`` processes, started when the first call comes.

    Cancelling a call that runs kills its process, whatever it is doing; another takes its place.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: pebble.ProcessPool | None = None

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function(*args, **kwargs)`` in a process of the pool; all of it must be picklable.

        Raises what the function raises, and PoolProcessDiedError.
        """
        if self._pool is None:
            self._pool = pebble.ProcessPool(
                max_workers=self._processes,
                initializer=_prepare,
                initargs=(os.getpid(),),
                context=multiprocessing.get_context("spawn"),
            )
        future = self._pool.schedule(function, args=args, kwargs=kwargs)
        try:
            result: T = await asyncio.wrap_future(future)
        except ProcessExpired as error:
            raise PoolProcessDiedError(f"the process that worked on it died: {error}") from error
        return result

    async def close(self) -> None:
        """Kill what runs and wait until all processes are gone."""
        if self._pool is not None:
            self._pool.stop()
            await asyncio.to_thread(self._pool.join)
            self._pool = None


def _prepare(parent: int) -> None:
    """In the child: ctrl-C in the terminal is the parent's affair, and nobody outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask to be told
        os._exit(1)
