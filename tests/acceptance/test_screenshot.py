"""A picture of a view, without a terminal."""

from __future__ import annotations

import json
import os
import re
import stat
from html import unescape
from pathlib import Path

import pytest

from tests.support.program import Program

COLOR = "color-extraction"
HOSTILE = "<script>[red]a\x1b[31m\u202e&amp;"


def text_of(svg: str) -> str:
    """The words of a picture, in the order in which they are drawn."""
    body = svg[svg.rindex("</clipPath>") :]
    words = re.findall(r"<text [^>]*>([^<]*)</text>", body)
    return " ".join(unescape(word).replace("\N{NO-BREAK SPACE}", " ") for word in words)


@pytest.mark.slow
def test_a_picture_shows_the_living_queues_and_is_for_its_owner_only(program: Program) -> None:
    data = json.dumps({"item_id": "dress-17", "image": HOSTILE})
    assert program.run("enqueue", COLOR, "--data", data, "--key", HOSTILE).code == 0
    done = program.run("screenshot", "picture.svg", "--view", "3", "--size", "100x30", NO_COLOR="1")
    assert (done.code, done.out) == (0, "picture.svg: jobs, 100x30\n"), done.err
    file = program.directory / "picture.svg"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = file.read_text()
    assert shown.startswith("<svg")
    assert shown.count("<clipPath id=") == 30  # all lines but the last, and the terminal
    words = text_of(shown)
    assert "Ready 1" in words
    assert "couturecast-tui · jobs" in words
    assert "<script>" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown

    again = program.run("screenshot", "picture.svg")
    assert (again.code, again.errors) == (
        2,
        ["error: FILE: picture.svg exists already: name another file, or give --force"],
    )
    assert file.read_text() == shown
    assert os.listdir(program.directory) == ["picture.svg"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "shows"),
    [
        ("overview", "Queues"),
        ("2", "Dead letters"),
        ("workers", "no process works on the queues"),
        ("5", "hit rate"),
        ("events", "Events"),
    ],
)
def test_each_view_can_be_drawn_on_standard_output(program: Program, view: str, shows: str) -> None:
    done = program.run("screenshot", "-", "--view", view, "--size", "80x24")
    assert done.code == 0, done.err
    assert shows in text_of(done.out)


@pytest.mark.slow
def test_the_page_of_a_queue_in_another_theme_replaces_a_picture(program: Program) -> None:
    (program.directory / "q.svg").write_text("before")
    done = program.run("screenshot", "q.svg", "--force", "--queue", COLOR, "--theme", "couturecast-light")
    assert (done.code, done.out) == (0, "q.svg: color-extraction, 160x48\n"), done.err
    shown = (program.directory / "q.svg").read_text()
    assert "Now and settings" in text_of(shown)
    assert "#fbfbf9" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a.svg", "--size", "160"), "--size: invalid size '160': use columns x rows from 60x16 to 500x200"),
        (("a.svg", "--size", "59x24"), "--size: invalid size '59x24'"),
        (("a.svg", "--size", "9999x24"), "--size: invalid size '9999x24'"),
        (("a.svg", "--view", "7"), "--view: unknown view '7': use one of 1 overview, 2 letters, 3 jobs"),
        (("a.svg", "--theme", "neon"), "--theme: unknown theme 'neon': use one of ansi-dark"),
        (("a.svg", "--queue", "colours"), "unknown queue 'colours': use one of weather-ingestion"),
        (("a.png",), "FILE: a.png: only SVG can be written: name a file that ends in .svg"),
        (("none/a.svg",), "FILE: none/a.svg: No such file or directory"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(program: Program, arguments: tuple[str, ...], says: str) -> None:
    done = program.run("screenshot", *arguments)
    assert done.code in (1, 2)
    assert len(done.err.splitlines()) == 1
    assert says in done.err
    assert done.out == ""
    assert not Path(program.directory / "a.svg").exists()
