"""Completion as a shell asks for it: commands, queues, states and ids."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.buried import bury_six
from tests.acceptance.completing import complete, values
from tests.support.program import COLOR, MODERATION, QUEUES, Program


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_are_completed_in_each_shell(program: Program, shell: str) -> None:
    out = complete(program, "couturecast-tui failed-jobs re", shell).out
    assert all(name in out for name in ("replay", "resume", "restore"))
    assert "groups" not in out
    assert ("Enqueue dead letters again" in out) == (shell != "bash")
    assert not program.data_dir.exists()


def test_queues_states_and_options_are_completed(program: Program) -> None:
    assert values(program, "couturecast-tui pause ") == QUEUES
    assert values(program, "couturecast-tui enqueue c") == [COLOR]
    assert values(program, "couturecast-tui failed-jobs list --queue mod") == [MODERATION]
    assert values(program, "couturecast-tui failed-jobs list --state d") == ["dead", "discarded"]
    assert values(program, "couturecast-tui failed-jobs plan 1 --state w") == ["waiting"]
    assert values(program, "couturecast-tui failed-jobs export --format ") == ["jsonl", "csv", "markdown"]
    assert values(program, "couturecast-tui upstash env st") == ["staging"]
    assert values(program, "couturecast-tui alerts ack back") == ["backlog"]
    assert values(program, "couturecast-tui alerts silence --queue mod") == [MODERATION]
    assert values(program, "couturecast-tui failed-jobs replay --ca") == ["--canary"]


@pytest.mark.slow
async def test_ids_are_completed_from_the_database(program: Program) -> None:
    await bury_six(program)
    assert program.run("failed-jobs", "discard", "5", "--json").json["total"] == 1
    assert program.run("failed-jobs", "replay", "6", "--json").code == 0
    assert set(values(program, "couturecast-tui failed-jobs show ")) == set("123456")
    assert set(values(program, "couturecast-tui failed-jobs discard 1 ")) == set("1234")
    assert values(program, "couturecast-tui failed-jobs restore ") == ["5"]
    assert values(program, "couturecast-tui failed-jobs plan ") == ["1"]
    described = complete(program, "couturecast-tui failed-jobs restore ", "fish").out
    assert described == f"5\t{MODERATION} ConnectionError\n"


async def test_ids_are_those_of_the_data_directory_on_the_line(program: Program) -> None:
    await bury_six(program)
    option, elsewhere = f"--data-dir {program.data_dir}", str(program.directory / "elsewhere")
    for line in (f"{option} failed-jobs show ", f"failed-jobs show {option} "):
        done = complete(program, f"couturecast-tui {line}", COUTURECAST_DATA_DIR=elsewhere)
        assert set(done.out.split()) == set("123456")


def test_completion_creates_nothing(program: Program) -> None:
    assert values(program, "couturecast-tui failed-jobs show ") == []
    assert not program.data_dir.exists()


@pytest.mark.parametrize("settings", [{"COUTURECAST_LOG_LEVEL": "loud"}, {"DATABASE_URL": "nonsense"}])
def test_broken_settings_complete_nothing_and_print_nothing(
    program: Program, settings: dict[str, str]
) -> None:
    assert complete(program, "couturecast-tui failed-jobs show ", **settings).out.strip() == ""


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "is silent"])
def test_a_database_that_does_not_answer_completes_nothing(program: Program, answers: bool) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        url = f"postgresql://user:password@127.0.0.1:{port}/database"
        done = complete(program, "couturecast-tui failed-jobs show ", DATABASE_URL=url)
    assert done.out.strip() == ""


@pytest.mark.slow
def test_bash_completes_with_the_script_that_the_program_prints(program: Program, tmp_path: Path) -> None:
    script = """
        eval "$(couturecast-tui --show-completion)"
        COMP_WORDS=(couturecast-tui failed-jobs re) COMP_CWORD=2
        _couturecast_tui_completion couturecast-tui
        printf '%s\\n' "${COMPREPLY[@]}"
        complete -p couturecast-tui
        couturecast-tui --install-completion >/dev/null
        cmp <(couturecast-tui --show-completion) <(cat ~/.bash_completions/couturecast-tui.sh; echo) &&
            grep source ~/.bashrc
    """
    path = f"{Path(program.command(())[0]).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=program.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    *offered, registered, installed = done.stdout.splitlines()
    assert offered == ["replay", "resume", "restore"]
    assert installed == f"source '{program.environment['HOME']}/.bash_completions/couturecast-tui.sh'"
    assert registered == "complete -o default -F _couturecast_tui_completion couturecast-tui"
