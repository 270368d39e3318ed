"""Tables of commands: aligned, cut to a terminal, and plain anywhere else."""

from __future__ import annotations

from app.cli.render.tables import table_text

HEAD = ("id", "error", "count")
ROWS = [("7", "TimeoutError: " + "no answer " * 20, "1"), ("12", "[red]袍[/red] :smile: 1.2.3.4", "23")]


def table(width: int | None = None) -> list[str]:
    return table_text(HEAD, ROWS, right=("id", "count"), shrink=("error",), width=width).split("\n")


def test_without_a_terminal_nothing_is_cut_wrapped_or_padded() -> None:
    head, first, second = table()
    assert head.split() == list(HEAD)
    assert ROWS[0][1] in first
    assert len({len(line) for line in (head, first)}) == 1
    assert all(line == line.rstrip() for line in (head, first, second))


def test_a_table_fits_its_terminal_and_the_named_column_is_cut() -> None:
    for width in (30, 40, 80):
        lines = table(width)
        assert len(lines) == 3
        assert all(len(line) <= width for line in lines)
        assert lines[1].startswith(" 7  TimeoutErr")
        assert "…" in lines[1]
        assert [line.split()[-1] for line in lines] == ["count", "1", "23"]


def test_markup_of_jobs_is_text() -> None:
    assert "[red]袍[/red] :smile: 1.2.3.4" in table()[2]


def test_control_characters_are_escaped() -> None:
    assert table_text(("a", "b"), [("x\ny\x1b[31m", "\u202e")]).split("\n")[1] == "x\\x0ay\\x1b[31m  \\u202e"


def test_wide_characters_take_two_columns() -> None:
    first, second = table_text(("a", "b"), [("袍袍", "x"), ("abcd", "y")]).split("\n")[1:]
    assert (first, second) == ("袍袍  x", "abcd  y")
