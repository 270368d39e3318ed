"""How the lines of a report are written."""

from __future__ import annotations

from app.cli.render.doctor import findings_text, summary
from tests.unit.app.doctor.conftest import ITEMS


def text(width: int | None, *, colour: bool = False, encoding: str = "utf-8") -> list[str]:
    return findings_text(ITEMS, width=width, colour=colour, encoding=encoding).split("\n")


def test_without_a_width_each_check_is_one_line() -> None:
    assert text(None) == [
        "Redis",
        "  ✓ ok      server    redis://:***@h:6379/0",
        "  ✗ wrong   eviction  allkeys-lru; jobs are lost; fix: CONFIG SET maxmemory-policy noeviction",
        "machine",
        "  ! warning disk      900 MB free; once it is full, nothing is recorded; fix: free space there",
        "  ? unknown odd       not \\x1b checked: why",
        "",
        "4 checks: 1 ok, 1 warning, 1 wrong, 1 unknown (Redis eviction)",
    ]


def test_long_findings_are_wrapped_and_indented() -> None:
    lines = text(60)
    assert lines[2:6] == [
        "  ✗ wrong   eviction  allkeys-lru",
        "                      jobs are lost",
        "                      fix: CONFIG SET maxmemory-policy",
        "                      noeviction",
    ]
    assert max(map(len, lines)) <= 60


def test_in_a_narrow_terminal_findings_are_below_the_names() -> None:
    lines = text(40)
    assert lines[3:6] == ["  ✗ wrong   eviction", "    allkeys-lru", "    jobs are lost"]
    assert max(map(len, lines)) <= 40


def test_states_are_readable_without_colour_and_in_ascii() -> None:
    plain = "\n".join(text(None, encoding="ascii"))
    assert plain.isascii()
    assert "  x wrong   eviction" in plain
    assert "\x1b[31m  ✗ wrong   \x1b[0meviction" in "\n".join(text(None, colour=True))


def test_the_summary_counts() -> None:
    assert summary(ITEMS[:1] * 2) == "2 checks: 2 ok, 0 warnings, 0 wrong"
