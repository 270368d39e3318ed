"""Standard error is a pipe that nobody reads: jobs go on, HTTP answers, SIGTERM drains."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from pathlib import Path
from subprocess import DEVNULL

import pytest

from tests.support.program import RUN_SECONDS, Program, total
from tests.support.servers import free_port
from tests.support.waiting import eventually

COLOR = "color-extraction"
HANDLER = """
import logging


async def loud(ctx):
    for _ in range(40):
        logging.getLogger("loud").warning("x" * 10_000)
"""


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=RUN_SECONDS) as answer:
        found: str = answer.read().decode()
        return found


def answers(port: int) -> bool:
    try:
        return bool(get(port, "/livez"))
    except OSError:
        return False


@pytest.mark.slow
async def test_a_reader_that_stops_reading_stops_nothing(program: Program, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "loud.py").write_text(HANDLER)
    port = free_port()
    program.environment |= {
        "PYTHONPATH": str(tmp_path / "modules"),
        "COUTURECAST_HANDLERS": f"{COLOR}=loud:loud",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",  # a process sends but a few of its lines
        "COUTURECAST_HTTP": f"127.0.0.1:{port}",
    }
    unread, stderr = os.pipe()
    streams = (DEVNULL, stderr, stderr)  # and ready goes the same way, as with 2>&1
    process = program.popen("--no-ui", streams=streams)
    os.close(stderr)
    try:
        await eventually(lambda: asyncio.to_thread(answers, port), within=60, what="it serves HTTP")
        lines = b"{}\n" * 10  # four megabytes of log
        done = await asyncio.to_thread(program.run, "enqueue", COLOR, "-", stdin=lines)
        assert done.code == 0, done.err
        await eventually(lambda: total(program.data_dir, COLOR, "completed") == 10, within=60)
        assert "couturecast_log_lines_dropped_total 0.0" not in await asyncio.to_thread(get, port, "/metrics")
        assert await asyncio.to_thread(get, port, "/livez")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, RUN_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(unread)
