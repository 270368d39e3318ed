"""The handlers of `tests.support.worker_process` that run in processes of their own, in Python 3.9."""

import asyncio
import json
import os
import time

_JOURNAL = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _note(event, ctx):
    line = {"event": event, "key": ctx["job"].key, "attempt": ctx["job"].attempts}
    os.write(_JOURNAL, (json.dumps({**line, "at": time.monotonic(), "pid": os.getpid()}) + "\n").encode())


async def coroutine(ctx, seconds=0.0, fail=False):
    """One of many in a process."""
    _note("start", ctx)
    await asyncio.sleep(seconds)
    return _end(ctx, fail)


def plain(ctx, seconds=0.0, fail=False):
    """The only one of its process."""
    _note("start", ctx)
    time.sleep(seconds)
    return _end(ctx, fail)


def _end(ctx, fail):
    if fail:
        _note("failed", ctx)
        raise RuntimeError("told to fail")
    _note("end", ctx)
    return "done"
