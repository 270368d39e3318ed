"""The lines that are kept of the process and of attempts."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app import logs
from workers.engine.attempt_log import (
    MAX_ATTEMPT_BYTES,
    MAX_ATTEMPT_LINES,
    LogLine,
    MemoryHandler,
    current_attempt,
    log_text,
    newest_lines,
)

FIELDS = {"queue": "color-extraction", "job": "dress-17", "attempt": 2, "worker": "w1"}


class Attempt:
    """An attempt that runs."""

    def __init__(self) -> None:
        self.ended = False
        self.lines: deque[LogLine] | None = None

    def log_fields(self) -> dict[str, Any]:
        return FIELDS

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines or ()]


class Odd:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    made = io.StringIO()
    logs.configure("info", stream=made)
    yield made
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def attempt(stream: io.StringIO) -> Iterator[Attempt]:
    made = Attempt()
    token = current_attempt.set(made)
    yield made
    current_attempt.reset(token)


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_of_both_libraries_have_the_attempt_and_are_kept_with_it(
    attempt: Attempt, stream: io.StringIO
) -> None:
    structlog.get_logger("shop").info("decoded", width=640, name="a b")
    logging.getLogger("shop").warning("slow: %s s", 2)
    assert attempt.texts == ["decoded width=640 name=a b", "slow: 2 s"]
    assert [line.level for line in attempt.lines or ()] == ["info", "warning"]
    assert all(FIELDS.items() <= line.items() for line in written(stream))
    newest = newest_lines()[-1]
    assert (newest.text, newest.queue, newest.job, newest.attempt, newest.worker) == (
        "slow: 2 s",
        *FIELDS.values(),
    )


def test_its_own_fields_of_these_names_stay_as_they_are(attempt: Attempt, stream: io.StringIO) -> None:
    structlog.get_logger().info("hands on", job="another")
    assert written(stream)[-1]["job"] == "another"


def test_a_line_outside_of_an_attempt_is_kept_by_the_process_only(stream: io.StringIO) -> None:
    structlog.get_logger().info("http answers", url="http://x")
    line = newest_lines()[-1]
    assert (line.text, line.queue, line.job) == ("http answers url=http://x", None, None)
    assert "queue" not in written(stream)[-1]


def test_what_is_logged_after_the_end_is_no_line_of_the_attempt(attempt: Attempt) -> None:
    attempt.ended = True
    logging.getLogger().warning("a task that was left behind")
    assert attempt.lines is None
    assert newest_lines()[-1].job is None


def test_debug_lines_are_kept_if_they_are_logged(attempt: Attempt, stream: io.StringIO) -> None:
    logging.getLogger("shop").debug("not logged")
    structlog.get_logger().debug("not logged")
    assert attempt.lines is None
    logs.configure("debug", stream=stream)
    logging.getLogger("shop").debug("logged")
    assert attempt.texts == ["logged"]


async def test_tasks_and_threads_of_an_attempt_log_for_it(attempt: Attempt) -> None:
    async def child() -> None:
        logging.getLogger("shop").info("in a task")

    await asyncio.create_task(child())
    await asyncio.to_thread(logging.getLogger("shop").info, "in a thread")
    thread = threading.Thread(target=contextvars.copy_context().run, args=(logging.warning, "in its context"))
    thread.start()
    thread.join()
    assert attempt.texts == ["in a task", "in a thread", "in its context"]


def test_errors_are_named_without_their_traceback(attempt: Attempt) -> None:
    try:
        raise ValueError("no such picture")
    except ValueError as error:
        logging.getLogger().exception("failed")
        structlog.get_logger().exception("failed", item=1)
        structlog.get_logger().warning("failed", exc_info=error)
    assert attempt.texts == [
        "failed: ValueError: no such picture",
        "failed item=1: ValueError: no such picture",
        "failed: ValueError: no such picture",
    ]


def test_the_newest_lines_are_kept_and_long_ones_are_cut(attempt: Attempt) -> None:
    for number in range(MAX_ATTEMPT_LINES + 5):
        logging.getLogger().warning("%s %s", number, "x" * 600)
    assert len(attempt.texts) == MAX_ATTEMPT_LINES
    assert attempt.texts[-1].startswith(f"{MAX_ATTEMPT_LINES + 4} x")
    assert all(len(text) == 500 and text.endswith("…") for text in attempt.texts)
    kept = log_text(attempt.lines)
    assert 10 <= len(kept) < MAX_ATTEMPT_LINES
    assert sum(len(line.encode()) for line in kept) <= MAX_ATTEMPT_BYTES
    assert attempt.texts[-1] in kept[-1], "the newest"


def test_a_record_has_time_level_and_text() -> None:
    assert log_text([LogLine(1_700_000_000.25, "warning", "slow")]) == [
        "2023-11-14T22:13:20.250Z warning slow"
    ]
    assert log_text(None) == []


@pytest.mark.parametrize(
    "record",
    [{"msg": "%s", "args": (Odd(),)}, {"msg": {"event": "read", "it": Odd()}}, {"msg": "%d", "args": ("x",)}],
)
def test_what_cannot_be_shown_is_no_error(attempt: Attempt, record: dict[str, Any]) -> None:
    MemoryHandler().emit(logging.makeLogRecord({"name": "shop", **record}))
    assert attempt.texts == ["a line of shop that cannot be formatted"]


def test_text_that_is_not_utf8_is_escaped_since_it_could_not_be_written(attempt: Attempt) -> None:
    MemoryHandler().emit(logging.makeLogRecord({"name": "shop", "msg": "\ud800" * 500}))
    assert attempt.texts == ["\\ud800" * 83 + "\\…"]


def test_each_json_line_names_the_release(stream: io.StringIO) -> None:
    logs.set_release("2026-11-28.1")
    try:
        structlog.get_logger().info("takes jobs")
        assert written(stream)[-1]["release"] == "2026-11-28.1"
    finally:
        logs._process_fields.clear()
