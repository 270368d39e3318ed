"""Notices that standard input has ended: so a process learns that the one that started it is gone."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

_READ_BYTES = 1024


def drain_at_end_of_input(begin_drain: Callable[[], None]) -> None:
    """Call ``begin_drain`` in the running event loop once standard input, a pipe, has ended."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(descriptor, _READ_BYTES):
            loop.remove_reader(descriptor)
            begin_drain()

    loop.add_reader(descriptor, read)
