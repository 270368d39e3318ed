"""``status`` and ``status --watch``, as a process on a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from subprocess import DEVNULL
from tempfile import TemporaryFile

import pytest

from tests.support.program import OpenTerminal, Program, server_pid
from tests.support.waiting import eventually

COLOR = "color-extraction"
OTHER_SCREEN, FIRST_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
SHOWN = ("Queues", "weather-ingestion", "wait p50", "Dead letters", "Workers", "redis ok", "database ok")


async def enqueue(program: Program, key: str) -> None:
    data = json.dumps({"item_id": key, "image": "none.jpg"})
    done = await asyncio.to_thread(program.run, "enqueue", COLOR, "--data", data, "--key", key)
    assert done.code == 0, done.err


async def test_watch_repeats_the_status_until_ctrl_c_and_restores_the_terminal(
    program: Program, terminal: OpenTerminal
) -> None:
    shown = terminal("status", "--watch", "--interval", "0.2", size=(80, 40))
    for words in SHOWN:
        await shown.shows(words)
    assert OTHER_SCREEN in shown.output
    await enqueue(program, "first")
    await eventually(lambda: "color-extraction       1" in shown.text, what="the figures follow the queue")
    before = len(shown.read())
    shown.resize(160, 48)
    await eventually(lambda: "in flight" in shown.text_since(before), what="it uses the larger terminal")
    shown.process.send_signal(signal.SIGINT)
    assert await shown.code(within=60) == 0
    assert shown.modes_restored()
    assert FIRST_SCREEN in shown.output[shown.output.rindex(OTHER_SCREEN) :]
    assert "error" not in shown.text


@pytest.mark.slow
async def test_watch_keeps_the_last_figures_with_their_age_while_redis_does_not_answer(
    program: Program, terminal: OpenTerminal
) -> None:
    await enqueue(program, "first")
    shown = terminal("status", "--watch", "--interval", "0.2", size=(120, 40))
    await shown.shows("color-extraction       1")
    server = server_pid(program.data_dir)
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    try:
        await shown.shows("▲ Redis does not answer, figures are ")
        old = shown.text.rpartition("Redis does not answer")[2]
        await eventually(lambda: "color-extraction       1" in shown.text.rpartition(old[:40])[2])
    finally:
        os.kill(server, signal.SIGCONT)
    before = len(shown.read())
    await eventually(lambda: "redis ok" in shown.text_since(before), what="it goes on")
    shown.process.send_signal(signal.SIGINT)
    assert await shown.code(within=60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["tables", "JSON"])
async def test_without_a_terminal_watch_prints_one_status_after_the_other(
    program: Program, form: tuple[str, ...]
) -> None:
    with TemporaryFile() as out:
        process = program.popen(
            "status", "--watch", "--interval", "0.2", *form, streams=(DEVNULL, out.fileno(), DEVNULL)
        )

        def written() -> str:
            out.seek(0)
            return out.read().decode()

        block = '"queues"' if form else "Queues\n"
        await eventually(lambda: written().count(block) >= 3, what="three blocks")
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 30) == 0
        text = written()
    if form:
        documents = [json.loads(line) for line in text.splitlines()]
        assert all(len(document["queues"]) == 4 for document in documents)
    else:
        assert "\x1b" not in text
        assert text.count("Queues\n") >= 3
        assert text.count("\n\nQueues\n") == text.count("Queues\n")


@pytest.mark.slow
def test_a_status_without_a_terminal_is_plain_and_an_interval_needs_watch(program: Program) -> None:
    done = program.run("status")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert done.out.startswith(" ◐ pending: weather-ingestion  no worker")
    for words in SHOWN:
        assert words in done.out
    refused = program.run("status", "--interval", "3")
    assert (refused.code, refused.errors) == (
        2,
        ["error: --interval goes with --watch: add it, or drop --interval"],
    )


@pytest.mark.slow
def test_tables_are_in_the_zone_of_the_terminal(program: Program) -> None:
    minutes = []
    for zone in ("UTC", "Asia/Kolkata"):
        found = re.search(r" (\d\d):(\d\d):\d\d\n", program.run("status", TZ=zone).out)
        assert found is not None
        minutes.append(int(found[1]) * 60 + int(found[2]))
    assert (minutes[1] - minutes[0]) % 1_440 in range(330, 335)
