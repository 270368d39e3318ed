"""Handlers for the real program, by COUTURECAST_HANDLERS: as in the peers, they do nothing."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any


async def no_op(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Do nothing."""


async def note_start(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Write the monotonic clock, in nanoseconds, to the file that BENCH_NOTE names."""
    Path(os.environ["BENCH_NOTE"]).write_text(str(time.monotonic_ns()))  # noqa: ASYNC240 - once


async def sleep(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Wait for 5 ms, as for another service."""
    await asyncio.sleep(0.005)


def plain_no_op(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Do nothing, as a plain function."""


def plain_work(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Compute for 5 ms of the processor's time."""
    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        pass
