"""The places of code: errors with their tracebacks, and the stacks of running jobs."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import traceback
import types
from collections.abc import Iterable
from typing import Any

from couturecast_handlers import JobCancelledError, PermanentError

_MAX_TRACEBACK_CHARS = 8_000
_MAX_MESSAGE_CHARS = 2_000
_MAX_NAME_CHARS = 200
_MAX_FRAMES = 60
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def describe(error: BaseException) -> dict[str, Any]:
    """Return what is recorded of an error, as the appliance records its own."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "couturecast_handlers"):
        name = f"{kind.__module__}.{name}"
    message = message_of(error)
    try:
        trace = "".join(traceback.format_exception(kind, error, _without_ours(error.__traceback__)))
    except JobCancelledError:
        raise
    except BaseException as unwritable:
        trace = f"the traceback cannot be written: {type(unwritable).__name__}"
    return {
        "type": name[:_MAX_NAME_CHARS],
        "message": message,
        "traceback": trace[-_MAX_TRACEBACK_CHARS:],
        "frame": _handler_frame(error),
        "permanent": issubclass(kind, PermanentError),  # its own __class__ may be anything
    }


def message_of(error: BaseException) -> str:
    """Return the text of an error, not more than is recorded; none if the team's code cannot make it."""
    try:
        return str(error)[:_MAX_MESSAGE_CHARS]
    except JobCancelledError:
        raise
    except BaseException:  # whatever it raises instead
        return ""


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback without our frames at its beginning."""
    while trace is not None and _is_ours(trace.tb_frame.f_code):
        trace = trace.tb_next
    return trace


def _is_ours(code: types.CodeType) -> bool:
    return os.path.abspath(code.co_filename).startswith(_OURS)


def _handler_frame(error: BaseException) -> str | None:
    """Return the innermost frame that is the team's code, as ``module:function``."""
    innermost, trace = None, error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__")
        if isinstance(module, str) and not _is_ours(code) and is_of_team(code.co_filename):
            innermost = f"{module}:{_qualified_name(code)}"
        trace = trace.tb_next
    return innermost


def is_of_team(file: str) -> bool:
    """Return whether a file is neither of the standard library nor of what is installed."""
    installed = any(part in file for part in ("site-packages", "dist-packages"))
    return not installed and not file.startswith((os.path.dirname(os.__file__), "<"))


def _qualified_name(code: types.CodeType) -> str:
    return getattr(code, "co_qualname", code.co_name)  # Python 3.11


def main_thread_frames() -> list[Any]:
    """Return where the main thread stands, the outermost frame first.

    A frame is its file, line and function, and whether it is the team's code.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return _frames(traceback.walk_stack(frame))[::-1]


def _frames(walked: Iterable[tuple[types.FrameType, int]]) -> list[Any]:
    frames = [
        [file := frame.f_code.co_filename, line or 0, _qualified_name(frame.f_code), is_of_team(file)]
        for frame, line in walked
        if not _is_ours(frame.f_code)
    ]
    return frames[:_MAX_FRAMES]


def coroutine_frames(task: Any) -> list[Any]:
    """Return the frames of a suspended task and of what it waits for, as `main_thread_frames` does."""
    from asyncio import Task

    frames: list[Any] = []
    awaited: Any = task.get_coro()
    for _ in range(_MAX_FRAMES * 4):
        if inspect.isgenerator(awaited) and awaited.gi_frame is not None:
            awaited = awaited.gi_yieldfrom
            continue
        frame, after = getattr(awaited, "cr_frame", None), getattr(awaited, "cr_await", None)
        if frame is not None:
            frames += _frames([(frame, frame.f_lineno)])
        if isinstance(after, Task):
            after = after.get_coro()
        if after is None:
            break
        awaited = after
    return frames[-_MAX_FRAMES:]
