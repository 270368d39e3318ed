"""How the doctor writes its report on terminals and elsewhere, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import threading
from contextlib import closing

import pytest

from tests.acceptance.doctor.conftest import MAX_SECONDS, doctor, only_pings
from tests.support.program import OpenTerminal, Program
from tests.support.servers import free_port


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 24), (60, 24), (160, 48)])
async def test_lines_fit_the_terminal(terminal: OpenTerminal, size: tuple[int, int]) -> None:
    shown = terminal("doctor", size=size, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", NO_COLOR="1")
    assert await shown.code() == 1
    lines = shown.output.decode().splitlines()
    assert max(map(len, lines)) <= size[0]
    assert any(line.startswith("  ✗ wrong   server") for line in lines)
    assert any(line.startswith("  ✓ ok      disk") for line in lines)
    assert "unknown (Redis server)" in " ".join(lines)
    assert "\x1b" not in shown.output.decode()


async def test_states_are_readable_besides_their_colours(terminal: OpenTerminal) -> None:
    shown = terminal("doctor")
    assert await shown.code() == 0
    assert "\x1b[32m" in shown.output.decode()
    assert "✓ ok" in shown.output.decode()


@pytest.mark.slow
def test_without_a_terminal_each_check_is_one_line_in_ascii_if_needed(program: Program) -> None:
    done = program.run("doctor", LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    lines = done.out.splitlines()
    assert done.out.isascii()
    assert [line for line in lines if line.startswith("  ! warning terminal")]
    results = [line for line in lines if line.startswith("  ")]
    assert lines[-1].startswith(f"{len(results)} checks: ")
    assert all(line.split()[0] in ("+", "!", "x", "?") for line in results)


def test_control_characters_of_a_server_are_escaped(program: Program) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        reply = b"-ERR \x1b]0;title\x07"
        threading.Thread(target=only_pings, args=(listener, reply), daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        done = program.run("doctor", REDIS_URL=url)
        found = doctor(program, REDIS_URL=url)
    assert "\x1b" not in done.out
    assert "\\x1b]0;title\\x07" in done.out
    assert "\x1b]0;title\x07" in found["Redis server"]["finding"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ended_by", "code", "says"), [("a reader", 1, ""), ("ctrl-C", 130, "error: interrupted\n")]
)
async def test_a_module_that_hangs_does_not_keep_the_process(
    program: Program, ended_by: str, code: int, says: str
) -> None:
    (program.directory / "hangs.py").write_text("import time, sys\nprint('here')\ntime.sleep(60)")
    process = await asyncio.create_subprocess_exec(
        *program.command(("doctor",)),
        env=program.environment
        | {
            "COUTURECAST_HANDLERS": "color-extraction=hangs:run",
            "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
        },
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert await process.stderr.readline() == b"here\n"
    if ended_by == "ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(process.wait(), MAX_SECONDS) == code
    assert (await process.stderr.read()).decode() == says
