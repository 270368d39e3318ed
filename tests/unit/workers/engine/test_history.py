"""The history of a queue: any span is the difference of two points."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from workers.engine.history import History, Point, difference, failure_rate, wait_buckets
from workers.monitoring.history_reader import HistoryReader


def _point(at: float, **counters: int) -> Point:
    return Point(at, 0, 0, counters)


def test_what_another_program_wrote_is_not_a_point() -> None:
    for member in (
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b"[1,2]",
        b'[1,2,3,"a"]',
        b"[1,2,-3]",
        b'[1,2,3,"a",1.5]',
        b"[1,2,3,4,5]",
    ):
        assert Point.parse(member) is None
    assert Point.parse(b'[1500,2,3,"completed",7]') == Point(1.5, 2, 3, {"completed": 7})


def test_points_share_the_names_of_their_counters() -> None:
    points = [Point.parse(b'[1500,2,3,"completed",7,"w12",5]') for _ in range(2)]
    names = [id(name) for point in points if point is not None for name in point.counters]
    assert len(names) == 4
    assert len(set(names)) == 2


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), min_size=1, max_size=30), st.data())
def test_neighbouring_spans_add_up(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    points, at, completed = [], 1000, 0
    for seconds, jobs in steps:
        points.append(_point(at, completed=completed))
        at, completed = at + seconds, completed + jobs
    history = History.build(points, _point(at, completed=completed))
    middle = data.draw(st.integers(1000, at))
    both = history.span(1000, middle) + history.span(middle, at)
    assert both["completed"] == history.span(1000, at)["completed"] == completed


def test_a_counter_that_was_deleted_begins_again() -> None:
    assert difference({"completed": 90, "failed": 2}, {"completed": 3, "failed": 2}) == {"completed": 3}


def test_buckets_are_those_of_the_histogram() -> None:
    assert wait_buckets({"w3": 2, "w999": 1, "wx": 1, "w²": 1, "w79": 4, "wait_us": 9, "r3": 1}) == Counter(
        {3: 2, 79: 4}
    )


def test_a_rate_without_attempts_is_unknown() -> None:
    assert failure_rate({}) == (None, 0)
    assert failure_rate({"completed": 3, "failed": 1}) == (0.25, 4)


def test_a_reader_asks_for_each_point_once_and_again_after_the_clock_was_set_back() -> None:
    reader = HistoryReader()
    assert reader.ranges(100_000)[0] == f"({(100_000 - 3900) * 1000}"
    reader.add({10: [_point(99_990)], 60: [], 3600: []}, _point(100_000))
    assert reader.ranges(100_001)[0] == "(99990000"
    assert reader.ranges(90_000)[0] == f"({(90_000 - 3900) * 1000}"
