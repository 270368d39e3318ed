"""Charts side by side, as many rows of them as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.message import Message
from textual.widget import Widget

from tui.text.charts import Chart, draw, plot_size

MIN_CHART_LINES = 6
"""Title, three rows, axis and times."""
_MIN_CHART_WIDTH = 36
_GAP_COLUMNS = 3


class ChartGrid(Widget):
    """It is one widget, painted again only when a chart has changed."""

    class Resized(Message):
        """There is room for other charts."""

    DEFAULT_CSS = "ChartGrid { height: 1fr; padding: 0 1; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._charts: tuple[Chart, ...] = ()

    def layout_for(self, charts: int) -> tuple[int, int]:
        """Return how many charts fit side by side, and how many rows of them; both 0 if none fits."""
        return grid_layout(charts, self.content_size.width, self.content_size.height)

    def steps_for(self, charts: int) -> int:
        """Return in how many steps the series of each chart should be."""
        across, _ = self.layout_for(charts)
        return plot_size(self._width(across), MIN_CHART_LINES)[0] if across else 1

    def on_resize(self) -> None:
        """Ask for charts of this size."""
        self.post_message(self.Resized())

    def show_charts(self, charts: Sequence[Chart]) -> None:
        """Show these charts; those for which there is no room are left out."""
        if tuple(charts) != self._charts:
            self._charts = tuple(charts)
            self.refresh()

    def render(self) -> Text:
        """Render the charts."""
        across, down = self.layout_for(len(self._charts))
        lines: list[Text] = []
        if not across:
            return Text()
        height = self.content_size.height
        for row in range(down):
            row_charts = self._charts[row * across : (row + 1) * across]
            # Rows share the height; a blank line is between two of them.
            tall = (height - (down - 1)) // down
            drawn = [draw(chart, self._width(across), tall) for chart in row_charts]
            if row:
                lines.append(Text())
            lines += [Text(" " * _GAP_COLUMNS).join(parts) for parts in zip(*drawn, strict=True)]
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def _width(self, across: int) -> int:
        return (self.content_size.width - _GAP_COLUMNS * (across - 1)) // max(1, across)


def grid_layout(charts: int, width: int, height: int) -> tuple[int, int]:
    """Return the layout with most charts, the fewest empty places, and of those the best shape."""
    most_across = min(charts, (width + _GAP_COLUMNS) // (_MIN_CHART_WIDTH + _GAP_COLUMNS))
    most_down = (height + 1) // (MIN_CHART_LINES + 1)
    if not charts or not most_across or not most_down:
        return 0, 0
    layouts = [(across, min(most_down, -(-charts // across))) for across in range(1, most_across + 1)]

    def quality(layout: tuple[int, int]) -> tuple[int, int, float]:
        cells = layout[0] * layout[1]
        return min(charts, cells), -max(0, cells - charts), _shape(layout, width, height)

    return max(layouts, key=quality)


def _shape(layout: tuple[int, int], width: int, height: int) -> float:
    """Rate a shape: charts about six times as wide in columns as they are high in lines are best."""
    across, down = layout
    ratio = (width / across) / (height / down)
    return -abs(ratio - 6)
