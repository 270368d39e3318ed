"""The points of a queue's history that a reader has, and those that it still needs.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.redis.scripts import Argument
from workers.engine.history import FINE_SECONDS, HOUR_SECONDS, MINUTE_SECONDS, History, Point

_NEEDED_SECONDS = {FINE_SECONDS: 3900, MINUTE_SECONDS: 3 * 3600}
"""For how long back points are read, by the seconds between them."""
_WEEK_SECONDS = 7 * 86_400


class HistoryReader:
    """The points of one queue: each is read once, since it does not change."""

    def __init__(self) -> None:
        self._points: dict[int, list[Point]] = {seconds: [] for seconds in _NEEDED_SECONDS}
        self.history: History | None = None
        """The history of the last reading."""
        self.last_week: list[Point] = []
        """The points of this hour, one week ago, and of its end."""

    def ranges(self, now: float) -> list[Argument]:
        """Return the lowest and highest score of the points to read, as overview.lua takes them."""
        ranges: list[Argument] = []
        for seconds, needed in _NEEDED_SECONDS.items():
            points = self._points[seconds]
            if points and points[-1].at > now + 1:  # the server's clock was set back
                points.clear()
            newest = points[-1].at if points else now - needed
            ranges += [f"({newest * 1000:.0f}", "+inf"]
        hour = now // HOUR_SECONDS * HOUR_SECONDS - _WEEK_SECONDS
        return [*ranges, round(hour * 1000), round((hour + 2 * HOUR_SECONDS) * 1000)]

    def add(self, points: Mapping[int, Sequence[Point]], now: Point) -> History:
        """Remember the points that were read; all that are not too old, and the state now."""
        for seconds, needed in _NEEDED_SECONDS.items():
            recent = [point for point in self._points[seconds] if point.at >= now.at - needed]
            # Two readers at once may have got the same points.
            newest = recent[-1].at if recent else 0.0
            self._points[seconds] = recent + [point for point in points[seconds] if point.at > newest]
        self.last_week = list(points[HOUR_SECONDS])
        fine, minutes = (self._points[seconds] for seconds in _NEEDED_SECONDS)
        self.history = History.build([*minutes, *fine], now)
        return self.history
