"""Charts: each line as wide as it should be, with scale, threshold, times and marks."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_busy import BUSY, EVENTS
from tests.support.fake_moments import NOW
from tests.support.fake_signals import history
from tui.text.charts import FIGURES, LABEL_CHARS, RANGES, Chart, Mark, draw, marks_of, plot_size
from tui.text.format import rate
from tui.widgets.chart_grid import MIN_CHART_LINES, grid_layout
from workers.operations.history import Series, series

WIDTH, HEIGHT = 60, 11


def chart(*values: float | None, **fields: object) -> Chart:
    columns, _ = plot_size(WIDTH, HEIGHT)
    padded = (None,) * (columns - len(values)) + values
    return Chart("depth", Series(NOW - 3_600, NOW, padded), lambda value: f"{value:.0f}", **fields)  # type: ignore[arg-type]


def plain(shown: Chart, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    return [line.plain for line in draw(shown, width, height)]


def test_the_greatest_value_fills_the_plot_and_half_of_it_half() -> None:
    title, *plot = plain(chart(8, 4, 0, None, 8))
    assert title.startswith("depth  max 8")
    last = [row[-5:] for row in plot[:8]]
    assert last[0] == "█    "[:1] + "   █"
    assert [row[1] for row in last] == [" "] * 4 + ["█"] * 4
    assert last[-1] == "██▁ █"  # zero is drawn, a missing value is not


def test_the_scale_has_the_greatest_value_the_middle_and_zero() -> None:
    _, *plot = plain(chart(8, 4))
    labels = [plot[row][: LABEL_CHARS + 1].strip() for row in (0, 4, 8)]
    assert labels == ["8┤", "4┤", "0┼"]
    assert plot[1].startswith("       │")


@pytest.mark.parametrize(
    ("greatest", "middle"), [(1, "0.5"), (5, "2.5"), (15, "7.5"), (2, "1"), (952, "476")]
)
def test_the_label_of_the_middle_is_what_its_row_means(greatest: int, middle: str) -> None:
    _, *plot = plain(chart(greatest))
    assert [plot[row][: LABEL_CHARS + 1].strip() for row in (0, 4, 8)] == [f"{greatest}┤", f"{middle}┤", "0┼"]


def test_a_threshold_is_dotted_where_nothing_is_drawn_and_only_near_the_values() -> None:
    _, *plot = plain(chart(100, 132, threshold=100.0))
    dotted = [row for row in plot if "┄" in row]
    assert len(dotted) == 1
    assert dotted[0].count("┄") >= 50
    far = plain(chart(3, threshold=100.0))
    assert not any("┄" in row for row in far)
    assert "limit" not in far[0]
    assert "limit 100" in plain(chart(100, threshold=100.0))[0]


def test_the_value_of_now_counts_to_the_maximum_and_fits_the_scale() -> None:
    title, *plot = plain(chart(38, now=149.0))
    assert title.startswith("depth  now 149  max 149 ")
    assert plot[0][: LABEL_CHARS + 1].strip() == "149┤"
    assert plain(chart(38, now=0.0))[0].startswith("depth  now 0  max 38 ")


def test_times_are_round_and_marks_stand_where_they_happened() -> None:
    marks = (Mark(NOW - 1_800, "◆", "7f3c2a1"), Mark(NOW - 90_000, "‖", "paused"))
    lines = plain(chart(1, marks=marks))
    axis, labels = lines[-2], lines[-1]
    columns, _ = plot_size(WIDTH, HEIGHT)
    assert axis[LABEL_CHARS + 1 + columns // 2] == "◆"
    assert labels[LABEL_CHARS + 1 + columns // 2 :].startswith("7f3c2a1")
    assert "paused" not in labels
    assert labels.rstrip().endswith("now")
    times = [word for word in labels.split() if ":" in word]
    assert times
    assert all(word.endswith(("00", "15", "30", "45")) for word in times)


def test_words_that_would_touch_are_left_out() -> None:
    marks = tuple(Mark(NOW - 1_800 - number, "◆", "release") for number in range(5))
    assert plain(chart(1, marks=marks))[-1].count("release") == 1


@given(
    st.lists(st.none() | st.floats(0, 1e15), max_size=80),
    st.integers(20, 120),
    st.integers(4, 30),
    st.none() | st.floats(0, 1e15),
)
def test_every_line_has_the_given_width(
    values: list[float | None], width: int, height: int, threshold: float | None
) -> None:
    shown = Chart("t" * 90, Series(NOW - 3_600, NOW, tuple(values)), rate, threshold=threshold)
    lines = draw(shown, width, height)
    assert len(lines) == height
    assert {line.cell_len for line in lines} == {width}


def test_a_chart_that_was_not_read_is_empty() -> None:
    lines = plain(Chart("depth", None, rate))
    assert len(lines) == HEIGHT
    assert lines[0].startswith("depth  max –")


def test_events_leave_marks_on_the_charts_of_their_queue() -> None:
    assert [mark.words for mark in marks_of(EVENTS, "moderation-review")] == ["paused", "7f3c2a1"]
    assert [mark.words for mark in marks_of(EVENTS, "alert-fanout")] == ["7f3c2a1"]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
@pytest.mark.parametrize("seconds", RANGES)
def test_every_figure_can_be_drawn_over_every_range(figure: object, seconds: int) -> None:
    found = series(history(132, minutes=1_440), figure.name, seconds, 50)  # type: ignore[attr-defined]
    lines = draw(Chart("t", found, figure.form), 58, 8)  # type: ignore[attr-defined]
    assert any(block in line.plain for line in lines for block in "▁▂▃▄▅▆▇█")


@pytest.mark.parametrize(
    ("charts", "width", "height", "layout"),
    [
        (4, 158, 24, (2, 2)),
        (4, 118, 13, (2, 2)),
        (4, 198, 36, (2, 2)),
        (4, 158, 8, (4, 1)),
        (4, 78, 20, (2, 2)),
        (4, 60, 20, (1, 3)),
        (6, 158, 20, (3, 2)),
        (1, 158, 20, (1, 1)),
        (4, 158, 5, (0, 0)),
        (4, 30, 20, (0, 0)),
        (0, 158, 20, (0, 0)),
    ],
)
def test_charts_fill_the_room_there_is(charts: int, width: int, height: int, layout: tuple[int, int]) -> None:
    across, down = grid_layout(charts, width, height)
    assert (across, down) == layout
    assert not down or (height - (down - 1)) // down >= MIN_CHART_LINES


def test_the_threshold_has_its_label_and_hides_that_of_the_middle() -> None:
    _, *plot = plain(chart(132, threshold=70.0))
    labels = [row[:LABEL_CHARS].strip() for row in plot[:8]]
    assert [label for label in labels if label] == ["132", "70"]
    row = labels.index("70")
    assert "┄" in plot[row]
    _, *plot = plain(chart(132, threshold=130.0))
    assert [row[:LABEL_CHARS].strip() for row in plot[:8]][4] == "66"


def test_a_chart_has_the_figure_of_this_moment_and_not_of_its_last_step() -> None:
    queue = BUSY.queues[0]
    now = [figure.now(queue) for figure in FIGURES]
    assert now == [
        queue.depth,
        queue.in_flight,
        queue.throughput,
        queue.wait.p95,
        queue.run.p95,
        queue.failure_rate,
    ]
    assert plain(chart(8, 4, now=3.0))[0].startswith("depth  now 3  max 8")


def test_times_are_round_in_the_zone_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        hours = Series(NOW - 86_400, NOW, (1.0,) * 50)
        labels = draw(Chart("depth", hours, rate), WIDTH, HEIGHT)[-1].plain
    finally:
        monkeypatch.undo()
        time.tzset()
    times = [word for word in labels.split() if ":" in word]
    assert times
    assert all(word.endswith(":00") for word in times)
