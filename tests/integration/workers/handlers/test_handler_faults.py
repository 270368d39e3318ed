"""Faults of a handler in a process of its own: the other jobs end, each once."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from tests.support.handler_pools import ODD, OpenPool, run, run_as_the_engine
from tests.support.waiting import eventually
from workers.engine.remote_error import RemoteError
from workers.errors import HandlerProcessDiedError

INNOCENT = 9

ENDS: dict[str, set[str]] = {
    "block": {"timeout"},
    "exit_process": {"died"},
    "kill_itself": {"died"},
    "fork_and_terminate": {"done"},
    "fork_and_return": {"done"},
    "leave_a_child_and_exit": {"died"},
    "threads": {"done"},
    "keyboard_interrupt": {"failed"},
    "system_exit": {"failed"},
    "print_much": {"done"},
    "print_much_past_python": {"done"},
    "close_streams": {"died"},
    "allocate": {"done", "failed", "died"},  # as much memory as the machine has
    "change_everything": {"done"},
    "stop_loop": {"done"},
    "cancel_all": {"done", "cancelled"},
    "raise_unprintable": {"failed"},
    "generator_exit": {"failed"},
    "return_too_much": {"failed"},
    "replace_json": {"done"},
}


FUNCTIONS = ["dispatch_async", "dispatch", "in_a_task", "in_a_thread"]
CASES = [
    pytest.param(
        function,
        what,
        innocent,
        marks=[]
        if (function, innocent) == ("dispatch_async", 9) and "print" not in what
        else [pytest.mark.slow],
    )
    for function in FUNCTIONS
    for what in ENDS
    for innocent in (0, INNOCENT)
    if (function, what) != ("in_a_thread", "fork_and_return")  # the child never ends, and it waits for that
]


@pytest.mark.parametrize(("function", "what", "innocent"), CASES)
@pytest.mark.timeout(300)
async def test_whatever_a_handler_does_the_other_jobs_end_once(
    open_pool: OpenPool, function: str, what: str, innocent: int
) -> None:
    pool = await open_pool(f"{ODD}:{function}")
    good = [
        run_as_the_engine(pool, 60, f"good-{number}", what="good", seconds=0.3, value=number)
        for number in range(innocent)
    ]
    timeout = 3.0 if what == "block" else 60.0
    culprit, *others = await asyncio.gather(run_as_the_engine(pool, timeout, "odd", what=what), *good)
    if (function, what) == ("in_a_thread", "change_everything"):  # only the main thread may set signals
        assert culprit == ("failed", "ValueError")
    else:
        assert culprit[0] in ENDS[what]
    assert others == [("done", number) for number in range(innocent)]


async def test_an_alarm_that_a_plain_handler_leaves_does_not_end_the_next_job(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    assert await run(pool, what="leave_alarm") is None
    assert await run_as_the_engine(pool, 60, "good", what="good", seconds=0.5, value=1) == ("done", 1)


@pytest.mark.slow
async def test_of_jobs_that_reach_their_timeout_together_the_one_that_blocks_is_the_cause(
    open_pool: OpenPool,
) -> None:
    pool = await open_pool(f"{ODD}:dispatch_async")
    good = [
        run_as_the_engine(pool, 1.0, f"good-{number}", what="good", seconds=0.1, value=number)
        for number in range(INNOCENT)
    ]
    culprit, *others = await asyncio.gather(run_as_the_engine(pool, 1.0, "odd", what="block"), *good)
    assert culprit == ("timeout", None)
    assert others == [("done", number) for number in range(INNOCENT)]


@pytest.mark.slow
async def test_a_job_that_is_killed_for_another_one_after_its_own_timeout_has_reached_that(
    open_pool: OpenPool,
) -> None:
    pool = await open_pool(f"{ODD}:dispatch_async")
    late = run_as_the_engine(pool, 0.7, "late", what="good", seconds=30, value=1)
    blocks = run_as_the_engine(pool, 1.0, "odd", what="block")
    assert await asyncio.gather(late, blocks) == [("timeout", None)] * 2


@pytest.mark.slow
async def test_a_coroutine_that_ignores_its_cancellation_is_ended_with_its_process(
    open_pool: OpenPool,
) -> None:
    pool = await open_pool(f"{ODD}:never_obeys")
    good = run_as_the_engine(pool, 60, "good", what="good", seconds=2.0, value=1)
    culprit, other = await asyncio.gather(run_as_the_engine(pool, 0.5, "odd", what="wait"), good)
    assert (culprit, other) == (("timeout", None), ("done", 1))


async def test_a_breakpoint_in_the_background_is_an_error_that_says_where_it_stops(
    open_pool: OpenPool,
) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with pytest.raises(RemoteError, match=r"^breakpoint\(\) needs a terminal: run the job with "):
        await run(pool, what="stop_here")


async def test_a_process_that_has_lost_a_socket_takes_no_more_jobs(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with suppress(HandlerProcessDiedError):  # its process may notice before it sends the result
        assert await run(pool, what="replace_control") == "replaced"
    assert await run(pool, "good", what="good", seconds=0.3, value=1) == 1


async def test_a_result_that_is_too_large_is_an_error_that_says_so(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with pytest.raises(RemoteError, match=r"written as JSON: it has 70 MB, 32 MB are possible$"):
        await run(pool, what="return_too_much")


async def test_a_process_that_is_being_killed_gets_no_job(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    assert await run_as_the_engine(pool, 0.2, "odd", what="ignore_everything") == ("timeout", None)
    assert await run(pool, "good", what="good", value=1) == 1  # HandlerInterruptedError would be raised


async def test_a_cancellation_does_not_cut_off_what_is_being_sent(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    (process,) = pool.processes
    transport, received = process._jobs._transport, process._launched
    assert transport is not None
    assert received is not None
    transport.pause_reading()
    running = asyncio.create_task(run(pool, what="update_much"))
    await eventually(lambda: bytes_to_read(received.jobs) > 100_000)  # it waits amid its message
    running.cancel()
    await eventually(lambda: any(call.is_cancelled for call in process._calls.values()))
    transport.resume_reading()
    await asyncio.wait({running})
    assert running.cancelled()
    assert await run(pool, "good", what="good", value=1) == 1
    assert pool.processes == [process]


def bytes_to_read(connection: socket.socket) -> int:
    found = fcntl.ioctl(connection.fileno(), termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", found)[0])


async def test_a_result_that_cannot_be_read_is_an_error_that_says_why(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with pytest.raises(
        HandlerProcessDiedError, match="sent cannot be read: maximum recursion depth exceeded"
    ):
        await run(pool, what="return_too_deep")


async def test_of_a_crash_the_stack_of_the_handler_is_in_the_error(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with pytest.raises(HandlerProcessDiedError) as caught:
        await run(pool, what="crash")
    message = str(caught.value)
    assert "signal SIGSEGV" in message
    assert "odd_handlers.py" in message
    assert " in crash" in message
    assert "couturecast_handlers" not in message


async def test_a_long_line_that_is_printed_past_python_is_cut(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with capture_logs() as lines:
        await run(pool, what="print_a_long_line")
        await eventually(lambda: any("long" in line["event"] for line in lines))
    assert max(len(line["event"]) for line in lines) == 500


async def test_the_last_lines_of_a_process_are_whole_if_it_prints_them_in_pieces(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch")
    with capture_logs() as lines, pytest.raises(HandlerProcessDiedError) as caught:
        await run(pool, what="print_in_pieces_and_crash")
    assert "exit code 3: the first piece and the second" in str(caught.value)
    assert [line["event"] for line in lines] == ["the first piece and the second"]
