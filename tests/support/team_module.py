"""A team's module, for handler processes to import."""

from __future__ import annotations

from pathlib import Path

import pytest

TEAM = """
import asyncio, logging, sys
from couturecast_handlers import JobCancelledError, PermanentError

log = logging.getLogger("shop")
ended = []

async def fails(ctx, permanent=False):
    print("about to fail")
    log.warning("attempt %s of %s", ctx["job"].attempts, ctx["job"].key)
    raise (PermanentError if permanent else ValueError)("no such cloth")

async def asks(ctx):
    await ctx["job"].update(progress=0.5, meta={"step": "half"})
    return await ctx["queue"].enqueue("fan_out_alert", key="a-1", alert_id="a")

def asks_plainly(ctx):
    ctx["job"].update(progress=0.5, meta={"step": "half"})
    return ctx["queue"].enqueue("fan_out_alert", key="a-1", alert_id="a")

async def asks_wrongly(ctx):
    await ctx["queue"].enqueue("nothing")

async def unwritable(ctx):
    return {"when": object()}

def prints_bytes(ctx):
    sys.stdout.reconfigure(line_buffering=True)
    sys.stdout.buffer.write("one ü\\n".encode())
    sys.stdout.buffer.writelines([b"two\\n", b"\\xff three"])
    sys.stdout.buffer.flush()
    return "printed"

def sleeps(ctx, path):
    import time
    try:
        time.sleep(600)
    finally:
        open(path, "w").write("cleaned")

def cleans_up(ctx, path):
    try:
        while True:
            sum(range(1000))
    except JobCancelledError:
        open(path, "w").write("cleaned")
        raise

async def slow(ctx):
    await inner()

async def inner():
    await asyncio.sleep(60)

def starts(ctx, path, code=None):
    import os, subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    open(path, "w").write(str(child.pid))
    if code is not None:
        os.write(2, b"last words\\n")
        time.sleep(0.2)
        os._exit(code)

def numbers(ctx):
    yield 1

def slow_plainly(ctx):
    import time
    time.sleep(60)
"""


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A folder with the module ``shop``."""
    (tmp_path / "shop.py").write_text(TEAM)
    return tmp_path
