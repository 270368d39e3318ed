"""Handlers for the real program, by COUTURECAST_HANDLERS: as in the peers, they do nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


async def no_op(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Do nothing."""


async def note_start(_ctx: dict[str, Any], **_arguments: Any) -> None:
    """Write the monotonic clock, in nanoseconds, to the file that BENCH_NOTE names."""
    Path(os.environ["BENCH_NOTE"]).write_text(str(time.monotonic_ns()))  # noqa: ASYNC240 - once
