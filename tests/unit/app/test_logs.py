"""The log never waits for its reader: lines are dropped, counted, and that is said once it reads again."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app import logs

LINE = "x" * 10_000


class Pipe:
    """A pipe that is read only when the test does so."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")

    def read_until(self, text: str) -> str:
        """Return the lines up to the one with ``text``; fail if none comes."""
        found = b""
        while text.encode() not in found:
            chunk = os.read(self.reader, 65_536)
            assert chunk, found[-1000:]
            found += chunk
        return found.decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    made = Pipe()
    yield made
    os.close(made.reader)  # a writer that still waits is told that nobody reads
    for handler in root.handlers:
        if isinstance(handler, logs._LineHandler):
            handler.stop()
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
    made.stream.close()


def fill() -> int:
    """Log until lines are dropped; how many were logged."""
    before, number = logs.dropped_lines(), 0
    while logs.dropped_lines() < before + 10:
        logging.getLogger("filler").warning(LINE)
        number += 1
        assert number < 1000
    return number


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "_monitor" in thread.name]


def test_unread_lines_are_dropped_counted_and_reported(pipe: Pipe) -> None:
    before = logs.dropped_lines()
    logs.configure("info", stream=pipe.stream)
    number = fill()
    dropped = logs.dropped_lines() - before
    read = pipe.read_until("lines of the log were dropped")
    logging.getLogger("later").warning("after the gap")
    read += pipe.read_until("after the gap")
    lines = [json.loads(line) for line in read.splitlines()]
    reports = [line["event"] for line in lines if "were dropped" in line["event"]]
    assert reports == [f"{dropped} lines of the log were dropped: the reader was too slow"]
    assert sum(line["event"] == LINE for line in lines) == number - dropped
    assert lines[-1]["event"] == "after the gap"


def test_the_end_of_the_process_does_not_wait_for_a_reader(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    fill()
    ending = threading.Thread(target=logging.shutdown, daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()


def test_waiting_lines_are_written_at_the_end(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    for number in range(100):
        logging.getLogger("some").warning("line %d", number)
    logging.shutdown()
    assert "line 99" in pipe.read_until("line 99")


def test_a_closed_reader_costs_lines_only(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    before = logs.dropped_lines()
    os.close(pipe.reader)
    pipe.reader = os.open(os.devnull, os.O_RDONLY)
    logging.getLogger("some").warning("nobody is there")
    logging.shutdown()
    assert logs.dropped_lines() == before + 1


def test_a_non_blocking_descriptor_loses_no_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    logs.configure("info", stream=pipe.stream)
    before = logs.dropped_lines()
    for _ in range(30):  # more than a pipe holds
        logging.getLogger("some").warning(LINE)
    logging.getLogger("some").warning("the last")
    assert pipe.read_until("the last").count(LINE) == 30
    assert logs.dropped_lines() == before


def test_a_forked_child_writes_its_lines_itself(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads
        child = os.fork()
    if child == 0:
        logging.getLogger("some").warning("of the child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert pipe.read_until("of the child")


def test_lines_of_our_own_logs_hold_the_traceback(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        structlog.get_logger("ours").exception("it broke")
    (line,) = pipe.read_until("\n").splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exception"]


def test_a_record_that_cannot_be_formatted_is_one_line(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    logging.getLogger("some").warning("%d", "no number")
    (line,) = pipe.read_until("\n").splitlines()
    assert json.loads(line)["event"] == "a line of some cannot be formatted: TypeError"


def test_text_that_is_not_unicode_is_logged_all_the_same(pipe: Pipe) -> None:
    logs.configure("info", stream=pipe.stream)
    structlog.get_logger("ours").warning("attempt failed", error="no \ud800", count=1 << 70)
    (line,) = pipe.read_until("\n").splitlines()
    found = json.loads(line)
    assert (found["event"], found["error"], found["count"]) == ("attempt failed", "no \ud800", 1 << 70)


def test_the_log_goes_to_a_file_and_back(pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(writers())
    monkeypatch.setattr("sys.stderr", pipe.stream)
    logs.configure("info")
    logging.getLogger("some").warning("before")
    with logs.to_file("info", tmp_path / "log"):
        logging.getLogger("some").warning("meanwhile")
    logging.getLogger("some").warning("after")
    assert "meanwhile" not in pipe.read_until("after")
    assert json.loads((tmp_path / "log").read_text())["event"] == "meanwhile"
    deadline = time.monotonic() + 20
    while len(set(writers()) - before) > 1:  # those of the file, and of what was logged to before it, end
        assert time.monotonic() < deadline
        time.sleep(0.01)
