"""Shell completion, as a shell asks for it."""

from __future__ import annotations

from tests.support.program import Done, Program

VARIABLE = "_COUTURECAST_TUI_COMPLETE"


def complete(program: Program, line: str, shell: str = "bash", **environment: str) -> Done:
    """Press TAB at the end of a line."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    variables = {VARIABLE: f"complete_{shell}", "COUTURECAST_DATA_DIR": str(program.data_dir)}
    done = program.run(**(variables | asked | environment))
    assert (done.code, done.err) == (0, ""), done
    return done


def values(program: Program, line: str) -> list[str]:
    """Return the words that bash offers."""
    return complete(program, line).out.split()
