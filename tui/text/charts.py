"""Draws charts of eighth blocks: a scale, a time axis, a dotted threshold, and marks of what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from tui.text.format import MISSING, clip, count, duration, escape, local_time, percent, rate, utc_offset
from tui.text.styles import ACCENT, BREACH, MUTED, PAUSED, RULE
from workers.monitoring.snapshot import QueueSnapshot
from workers.operations.history import Series
from workers.operations.operations import Event
from workers.words import BLOCKS

LABEL_CHARS = 7
_FURNITURE_LINES = 3
"""Title, axis and times."""
_THRESHOLD_SHARE = 0.4
"""A threshold is drawn once the greatest value has reached this share of it: else it would flatten all."""
_TICK_SECONDS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600)
_TICK_CHARS = 11
"""Columns between two times, at least."""
RANGES = {900: "15 min", 3_600: "hour", 10_800: "3 h", 21_600: "6 h", 43_200: "12 h", 86_400: "24 h"}
"""Seconds of the ranges, and the words after "last"."""


@dataclass(frozen=True, slots=True)
class ChartFigure:
    """A figure that charts can show: its name in the history, its title, and how its values are written."""

    name: str
    title: str
    form: Callable[[float], str]
    now: Callable[[QueueSnapshot], float | None]
    """The value now: the last step of a series is some minutes long."""
    limit: Callable[[QueueSnapshot], float | None] = lambda _: None


def _whole_number(value: float) -> str:
    return count(round(value), LABEL_CHARS - 1)


def _short(seconds: float) -> str:
    return duration(seconds, LABEL_CHARS)


FIGURES = (
    ChartFigure("depth", "Depth", _whole_number, lambda queue: queue.depth, lambda queue: queue.depth_limit),
    ChartFigure(
        "in_flight", "In flight", _whole_number,
        lambda queue: queue.in_flight, lambda queue: float(queue.concurrency),
    ),
    ChartFigure("done", "Done a second", rate, lambda queue: queue.throughput),
    ChartFigure(
        "wait", "Wait p95", _short,
        lambda queue: queue.wait.p95, lambda queue: queue.wait_baseline and 2 * queue.wait_baseline,
    ),
    ChartFigure(
        "run", "Run p95", _short,
        lambda queue: queue.run.p95, lambda queue: queue.run_baseline and 2 * queue.run_baseline,
    ),
    ChartFigure(
        "failing", "Failing", percent,
        lambda queue: queue.failure_rate, lambda queue: queue.failure_limit,
    ),
)  # fmt: skip
"""In the order in which a key shows them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment's event: a deploy, a pause, a drain, a replay."""

    at: float
    sign: str
    words: str
    style: str = MUTED


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart; ``now`` is the value of this moment, ``series`` None while it was not read."""

    title: str
    series: Series | None
    form: Callable[[float], str]
    style: str = ACCENT
    now: float | None = None
    threshold: float | None = None
    marks: tuple[Mark, ...] = ()

    @property
    def values(self) -> Sequence[float | None]:
        """The values of the series; ``now`` is the last one if it is greater: a series may be old."""
        values = self.series.values if self.series is not None else ()
        if not values or self.now is None or self.now <= (values[-1] or 0.0):
            return values
        return (*values[:-1], self.now)

    @property
    def greatest(self) -> float | None:
        """The greatest value."""
        return max((value for value in self.values if value is not None), default=None)


_MARKS = {
    "new-release": ("◆", "release", ACCENT),
    "queue-paused": ("‖", "paused", PAUSED),
    "queue-resumed": ("●", "resumed", PAUSED),
    "worker-draining": ("▼", "drain", MUTED),
    "plan-started": ("↻", "replay", MUTED),
}


def marks_of(events: Sequence[Event], queue: str) -> tuple[Mark, ...]:
    """Return the marks that events leave on the charts of a queue, the newest first."""
    marks = []
    for event in events:
        if event.kind in _MARKS and event.queue in (None, queue):
            sign, words, style = _MARKS[event.kind]
            if event.kind == "new-release" and event.subject:
                words = clip(escape(event.subject), 12)
            marks.append(Mark(event.at.timestamp(), sign, words, style))
    return tuple(marks)


def plot_size(width: int, height: int) -> tuple[int, int]:
    """Return the columns and rows of the plot in a chart of this size."""
    return max(1, width - LABEL_CHARS - 1), max(1, height - _FURNITURE_LINES)


def draw(chart: Chart, width: int, height: int) -> list[Text]:
    """Return the lines of a chart, each exactly ``width`` wide."""
    columns, rows = plot_size(width, height)
    series = chart.series
    lines = [_title(chart)]
    if series is None:
        lines += [Text("") for _ in range(rows + 2)]
    else:
        values = chart.values[-columns:]
        top = _top(chart)
        lines += _plot(chart, values, top, rows)
        lines += _axis(chart, series, columns)
    for line in lines:
        line.truncate(width, overflow="crop", pad=True)
    return lines


def _title(chart: Chart) -> Text:
    text = Text.assemble((chart.title, "bold"))
    if chart.now is not None:
        text.append(f"  now {chart.form(chart.now)}", MUTED)
    greatest = chart.greatest
    text.append(f"  max {MISSING if greatest is None else chart.form(greatest)}", MUTED)
    if chart.threshold is not None and _top(chart) >= chart.threshold:
        text.append(f"  limit {chart.form(chart.threshold)}", MUTED)
    return text


def _top(chart: Chart) -> float:
    """Return the value at the top of the scale."""
    greatest = chart.greatest or 0.0
    if chart.threshold is not None and greatest >= _THRESHOLD_SHARE * chart.threshold:
        greatest = max(greatest, chart.threshold)
    return greatest


def _plot(chart: Chart, values: Sequence[float | None], top: float, rows: int) -> list[Text]:
    heights = [_eighths(value, top, rows) for value in values]
    dotted = _threshold_row(chart, top, rows)
    scale = _scale(chart, top, rows, dotted)
    lines = []
    for row in range(rows):
        below = (rows - 1 - row) * 8
        label, style = scale.get(row, ("", MUTED))
        line = Text(label[:LABEL_CHARS].rjust(LABEL_CHARS), style)
        plotted = Text.assemble(line, ("┤" if label else "│", RULE))
        blocks = [_cell(height, below) for height in heights]
        lines.append(plotted.append_text(_row(blocks, chart.style, is_dotted=row == dotted)))
    return lines


def _row(blocks: Sequence[str], style: str, *, is_dotted: bool) -> Text:
    """Return the blocks of a row, on the dots of the threshold if the row has it."""
    row = Text()
    cells = (("┄", BREACH) if is_dotted and block == " " else (block, style) for block in blocks)
    for cell_style, run in groupby(cells, key=lambda cell: cell[1]):
        row.append("".join(block for block, _ in run), cell_style)
    return row


def _scale(chart: Chart, top: float, rows: int, dotted: int | None) -> dict[int, tuple[str, str]]:
    """Return the labels by row: the greatest value, the threshold, and the middle if it is apart."""
    if top <= 0:
        return {}
    scale = {0: (chart.form(top), MUTED)}
    if dotted and chart.threshold is not None:
        scale[dotted] = (chart.form(chart.threshold), BREACH)
    middle = rows // 2
    if rows >= 4 and (dotted is None or abs(middle - dotted) > 1):
        scale[middle] = (_form_middle(chart, top * (rows - middle) / rows), MUTED)
    return scale


def _form_middle(chart: Chart, value: float) -> str:
    """Return the label of the middle; between two small counts it has a decimal."""
    label = chart.form(value)
    return f"{value:.1f}" if label.isdigit() and value < 10 and not value.is_integer() else label


def _eighths(value: float | None, top: float, rows: int) -> int:
    """Return how many eighths of a row are full; one for the least value, none for a missing one."""
    if value is None:
        return 0
    return 1 if top <= 0 or value <= 0 else max(1, min(rows * 8, round(value / top * rows * 8)))


def _cell(height: int, below: int) -> str:
    return BLOCKS[max(0, min(8, height - below))]


def _threshold_row(chart: Chart, top: float, rows: int) -> int | None:
    if chart.threshold is None or top < chart.threshold or top <= 0:
        return None
    return rows - 1 - min(rows - 1, int(chart.threshold / top * rows))


def _axis(chart: Chart, series: Series, columns: int) -> list[Text]:
    """Return the axis with the signs of the marks; below it their words, and times if these leave room."""
    span = (series.end - series.start) / columns
    labels = _Labels(columns)
    axis: list[tuple[str, str]] = [("─", RULE)] * columns
    labels.put(columns - 3, "now", MUTED)
    for mark in chart.marks:
        column = int((mark.at - series.start) / span)
        if 0 <= column < columns:
            axis[column] = (mark.sign, mark.style)
            labels.put(column, mark.words, mark.style)
    for at in _ticks(series, columns):
        column = int((at - series.start) / span)
        if labels.put(column, local_time(at, "%H:%M"), MUTED) and axis[column][0] == "─":
            axis[column] = ("┬", RULE)
    zero = chart.form(0.0).partition(" ")[0].partition(".")[0]
    line = Text.assemble((zero.rjust(LABEL_CHARS), MUTED), ("┼", RULE))
    for style, run in groupby(axis, key=lambda cell: cell[1]):
        line.append("".join(sign for sign, _ in run), style)
    return [line, labels.line()]


def _ticks(series: Series, columns: int) -> list[float]:
    """Return the times within the series that are round in the zone of the terminal."""
    seconds = (series.end - series.start) / max(1, columns // _TICK_CHARS)
    step = next((tick for tick in _TICK_SECONDS if tick >= seconds), _TICK_SECONDS[-1])
    offset = utc_offset(series.end)
    first = -(-(series.start + offset) // step) * step - offset
    return [first + step * number for number in range(int((series.end - first) // step) + 1)]


class _Labels:
    """One line of words at columns; a word that would touch another one is left out."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._words: dict[int, tuple[str, str]] = {}

    def put(self, column: int, words: str, style: str) -> bool:
        """Put words at a column, if there is room."""
        column = max(0, min(column, self._columns - len(words)))
        end = column + len(words)
        if end > self._columns or any(
            column <= start + len(other) and start <= end for start, (other, _) in self._words.items()
        ):
            return False
        self._words[column] = (words, style)
        return True

    def line(self) -> Text:
        """Return the line, below the plot."""
        text = Text(" " * (LABEL_CHARS + 1))
        for column, (words, style) in sorted(self._words.items()):
            text.append(" " * (column + LABEL_CHARS + 1 - text.cell_len))
            text.append(words, style)
        return text
