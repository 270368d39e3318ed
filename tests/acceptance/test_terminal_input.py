"""Any input at the terminal: the process lives, its workers run jobs, and its keys work."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.program import OpenTerminal, Program, Terminal
from tests.support.terminal_keys import painted, write
from tests.support.waiting import eventually

CASES = {
    "an X10 mouse report": b"\x1b[M \xc8\x40",
    "an X10 mouse report whose bytes are one character": b"\x1b[M \xc8\xbf",
    "an X10 mouse report with keys in it": b"\x1b[Mqqq\x1b[M D!",
    "a Latin-1 paste": b"caf\xe9 \xfc\xff",
    "a character cut off": b"\xe2\x96",
    "a number beyond all characters": b"\x1b[1114112u",
    "half a character": b"\x1b[55296u",
    "a huge mouse": b"\x1b[<0;999999999999;999999999999M\x1b[<0;-5;0m",
    "a huge size": b"\x1b[48;99999999;99999999;1;1t\x1b[<0;3;3M",
    "a size of nothing": b"\x1b[48;0;0;0;0t\x1b[<0;3;3M",
    "sizes that are reported in band": b"\x1b[?2048;1$y",
    "a paste without end": b"\x1b[200~rm -rf",
    "an answer that nobody asked for": b"\x1bP>|qD\x1b\\\x1b]11;rgb:qD/qD\x07",
    "NUL": b"\0\0\0",
}


async def answers(shown: Terminal, *, within: float = 60.0) -> None:
    """Wait until its keys go to the views again: whatever lies open is closed.

    A terminal tells escape from alt and the next key by the time between them: that grows, since a program
    on a busy machine may read both at once.
    """
    deadline = time.monotonic() + within
    for key, text in (("2", "Groups, letters"), ("1", " Queues ")):  # of that view alone
        pause = 0.1
        while True:
            write(shown, key.encode())
            if await painted(shown, text):
                break
            assert time.monotonic() < deadline, shown.text[-2_000:]
            leaving = await painted(shown, "will be lost")
            write(shown, b"y" if leaving else b"\x1b")
            pause = min(2 * pause, 5.0)
            await asyncio.sleep(pause)


@pytest.fixture
def shown(program: Program, terminal: OpenTerminal) -> Terminal:
    return terminal("--demo", size=(100, 30))


@pytest.mark.slow
async def test_bytes_of_any_kind_end_neither_the_process_nor_its_input(
    program: Program, shown: Terminal
) -> None:
    await shown.shows("1 worker")
    for name, data in CASES.items():
        write(shown, data)
        await answers(shown)
        assert not shown.ended(), name
    shown.press("q")
    await eventually(lambda: shown.ended() or "Drain and exit?" in shown.text, what="the end, or a question")
    if not shown.ended():
        shown.press("y")
    assert await shown.code(within=40) in (0, 3)
    assert "Traceback" not in shown.text


# Keys that leave or drain are left out here: other tests press them.
LEAVING = b"qQD!\x11\x10"
NUMBERS = st.sampled_from([0, 1, 2, 9, 65, 97, 255, 4096, 57_344, 1_114_111, 1_114_112, 10**12, 10**24])
CELLS = st.integers(-2, 23) | NUMBERS
SEQUENCES = st.one_of(
    st.builds("\x1b[<{};{};{}{}".format, NUMBERS, CELLS, CELLS, st.sampled_from("Mm")),
    st.builds("\x1b[{};{}{}".format, NUMBERS, NUMBERS, st.sampled_from("u~ABCDHFPQRSt")),
    st.builds("\x1b[48;{};{};{};{}t".format, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.builds("\x1b[?{};{}$y".format, st.sampled_from([2026, 2048, 1]), st.integers(0, 5)),
    st.sampled_from(["\x1b[200~", "\x1b[201~", "\x1b[I", "\x1b[O", "\x1b", "\x1b[", "\x1b[<0;", "\x1bO"]),
    st.sampled_from(["\x1b]0;", "\x1bP1$r", "\x1b_G", "\x1b^", "\x1bX", "\x07", "\x1b\\"]),
).map(str.encode)
REPORTS = st.binary(min_size=0, max_size=3).map(b"\x1b[M".__add__)
KEYS = st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass"))
ARRIVING = st.lists(SEQUENCES | REPORTS | KEYS | st.binary(max_size=12), min_size=1, max_size=3).map(
    lambda parts: b"".join(parts).translate(None, LEAVING)
)


async def fuzz(shown: Terminal, inputs: int) -> None:
    await shown.shows("1 worker")

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(ARRIVING)
    def arrive(data: bytes) -> None:
        write(shown, data)

    await asyncio.to_thread(arrive)
    await answers(shown, within=120)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_hundred_inputs_of_any_kind(shown: Terminal) -> None:
    await fuzz(shown, 100)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_ten_thousand_inputs_of_any_kind(shown: Terminal) -> None:
    await fuzz(shown, 10_000)
