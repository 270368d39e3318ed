"""Lines of the screens, without a screen."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from rich.text import Text

from tests.support.fake_letters import letter
from tests.support.fake_moments import HEALTHY, NOW, queue
from tui.text import dead_letters as letter_text
from tui.text import format as shown
from tui.text import queues as queue_text
from tui.text.verdict import queue_verdict
from workers.engine.histogram import Percentiles
from workers.engine.policy import RateLimit
from workers.monitoring.snapshot import Alert, Pause, QueueSnapshot

COUNTS = (0, 7, 999, 1_000, 9_999, 12_345, 99_999, 100_000, 999_499, 1_234_567, 987_654_321, 2**53, 2**63)
SECONDS = (None, 0.0, 0.9994, 9.94, 59.4, 118.0, 3599.0, 36_300.0, 86_399.0, 9e6, 1e9)
WIDTHS = (60, 80, 100, 112, 118, 119, 120, 160, 200)


def crowded(number: int, seconds: float | None) -> QueueSnapshot:
    return queue(
        "weather-ingestion",
        depth=number,
        oldest_age=seconds,
        in_flight=number,
        concurrency=number,
        rate_limit=RateLimit(max(1, number), 3600.0),
        rate_used=number,
        next_start_in=seconds,
        wait=Percentiles(seconds, seconds, seconds),
        run=Percentiles(seconds, seconds, seconds),
        failure_rate=1.0,
        recent_attempts=200,
        throughput=float(number),
        depth_history=(number,) * 60,
    )


def rows(
    shown: QueueSnapshot, width: int = 120, alerts: tuple[Alert, ...] = (), **options: Any
) -> list[Text]:
    judged = queue_verdict(shown, alerts, NOW)
    return queue_text.rows(shown, judged, alerts, **({"offline": False} | options), width=width)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_cell_touches_the_next_and_no_row_is_shifted(width: int) -> None:
    columns = queue_text.columns(width)
    starts, edge = [], 0
    for column in columns:
        edge += column.width
        starts.append(edge)
    assert edge <= width
    for number in COUNTS:
        for seconds in SECONDS:
            line = rows(crowded(number, seconds), width, offline=True)[0].plain
            for column, (begin, end) in zip(columns[1:], pairwise(starts), strict=True):
                cell = line[begin:end]
                assert cell[: queue_text.GAP_COLUMNS].isspace(), (number, seconds, column.title, line)
                assert cell[-1] != " ", (number, seconds, column.title, line)
            if len(line) > edge:  # the state
                assert line[edge : edge + 3] == "   "


@pytest.mark.parametrize("width", WIDTHS)
def test_headings_end_where_their_columns_end(width: int) -> None:
    heading, edge = queue_text.heading(width).plain, 0
    for column in queue_text.columns(width):
        edge += column.width
        if column.title not in ("queue", "in flight"):
            assert heading[:edge].endswith(f" {column.title}")


@pytest.mark.parametrize(
    ("number", "most", "says"),
    [
        (None, 5, "–"),
        (1_234, 5, "1,234"),
        (12_345, 6, "12,345"),
        (12_345, 5, "12.3k"),
        (123_456, 5, "123k"),
        (999_500, 5, "1.00M"),
        (1_234_567, 5, "1.23M"),
        (2 * 10**12, 5, "2.00T"),
        (2**53, 5, "9007T"),
    ],
)
def test_long_counts_are_shortened(number: int | None, most: int, says: str) -> None:
    assert shown.count(number, most) == says


def test_a_long_wait_for_the_rate_limit_keeps_its_column() -> None:
    waiting = queue(
        "weather-ingestion", in_flight=10, rate_limit=RateLimit(60, 3600), rate_used=60, next_start_in=3599.0
    )
    assert "10/10   60/60 59m" in rows(waiting)[0].plain


def test_the_age_of_the_last_completion_is_in_whole_seconds() -> None:
    found = [
        rows(queue("alert-fanout", succeeded_age=age), width=160)[0].plain.split()[-2:]
        for age in (0.2, 1.4, 31.6)
    ]
    assert found == [["1", "s"], ["1", "s"], ["32", "s"]]


def test_words_that_need_room_have_a_line_of_their_own_and_are_not_there_twice() -> None:
    paused = queue("moderation-review", paused=Pause("ops@box-2", "model rollout", NOW - 720))
    first, second = rows(paused, width=160)
    assert "paused" not in first.plain
    assert second.plain == "   paused 12 min ago by ops@box-2: model rollout"
    assert "paused 12 min ago by ops@box-2" in rows(paused, width=220)[0].plain


def test_a_slow_queue_that_waits_for_its_rate_limit_says_so() -> None:
    growing = replace(
        HEALTHY.queues[0], depth=132, recent_depths=(100, 105, 110, 115, 120, 125), next_start_in=0.3
    )
    slow = Alert("weather-ingestion", "slow", "wait p95 3 min, usually 16 s", since=NOW - 130)
    judged = queue_verdict(growing, (slow,), NOW)
    assert judged.short.startswith("slow, growing by ")
    assert judged.text.startswith("wait p95 3 min, usually 16 s; waits for its rate limit, growing by ")


def test_a_queue_is_judged_by_its_own_limits() -> None:
    full = queue("weather-ingestion", depth=132, failure_rate=0.07, in_flight=10, full_for=25.0)
    own = replace(full, depth_limit=500, failure_limit=0.1, stalled_limit=30)
    assert queue_verdict(full, (), NOW).tone == "breach"
    assert "132" in styled(rows(full)[0], "watch")
    assert "7.0 %" in styled(rows(full)[0], "watch")
    assert queue_verdict(own, (), NOW).tone == "fine"
    assert not styled(rows(own)[0], "watch", "breach")


def styled(line: Text, *styles: str) -> list[str]:
    return [line.plain[span.start : span.end] for span in line.spans if span.style in styles]


def test_a_share_of_few_attempts_is_no_breach() -> None:
    for attempts, sign in ((19, "●"), (20, "◐")):
        judged = queue("weather-ingestion", failure_rate=0.07, recent_attempts=attempts)
        assert rows(judged)[0].plain[1] == sign


@pytest.mark.parametrize("odd", [1e300, -1e300, 10**400, math.nan, math.inf, None, "nan", "soon", []])
def test_unreadable_times_of_an_attempt_are_dashes(odd: Any) -> None:
    attempt = {**letter(1).attempt_errors[0], "at": odd, "run_seconds": odd}
    detail = letter_text.letter_detail(letter(1, attempt_errors=[attempt, {}], enqueued_at=None)).plain
    assert "Attempt 1  at –, ran –\n    Traceback" in detail
    assert "Attempt –  at –, ran –\n    –" in detail


def test_a_pause_without_a_readable_start_is_shown() -> None:
    paused = queue("weather-ingestion", paused=Pause("ops", "rollout", None))
    assert rows(paused, 80)[1].plain.endswith("paused by ops: rollout")


def test_control_characters_of_a_letter_never_reach_the_terminal() -> None:
    nasty = "".join(map(chr, (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
    hostile = letter(1, job_id=nasty, error_message=nasty, job_data={"kwargs": {"note": nasty}}, worker=nasty)
    cells = letter_text.letter_cells(hostile, letter_text.letter_columns(160), now=NOW)
    for line in (letter_text.letter_detail(hostile).plain, *(cell.plain for cell in cells)):
        assert not set(nasty) & set(line.replace("\n", ""))


def test_a_wait_of_less_than_a_second_keeps_the_column() -> None:
    waiting = queue("weather-ingestion", rate_used=60, next_start_in=0.262)
    assert "60/60 1 s" in rows(waiting)[0].plain


def test_a_queue_without_workers_is_marked() -> None:
    row, words = rows(replace(HEALTHY.queues[0], workers=0), 80)
    assert row.plain[1] == "◌"
    assert "no worker serves it" in words.plain


@pytest.mark.parametrize("width", [80, 120, 160])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"in_flight": 10, "held_by_dead": 10, "recover_in": 5.2},
            "10 held by a dead worker, run again in 6 s",
        ),
        (
            {"in_flight": 10, "held_by_dead": 10, "workers": 0},
            "10 held by a dead worker, run again when a worker starts",
        ),
        (
            {"held_by_blocked": 2, "blocked_where": "handler shop:f, shop.py:3 in f"},
            "2 held by a blocked worker: handler shop:f, shop.py:3 in f",
        ),
        (
            {"in_flight": 10, "full_for": 25.0, "usual_run": 1.1},
            "stalled: 10 of 10 run for 25 s, usually 1.1 s",
        ),
        ({"in_flight": 10, "full_for": 25.0}, "stalled: 10 of 10 run for 25 s, nothing has ended"),
        (
            {"handler_problem": "its handler cannot run: 'shop:work' cannot be imported"},
            "no job can run: its handler cannot run: 'shop:work' cannot be imported",
        ),
    ],
)
def test_a_queue_without_progress_shows_the_reason(width: int, fields: dict[str, Any], words: str) -> None:
    lines = rows(queue("weather-ingestion", **fields), width)
    assert lines[0].plain[1] in "▲◌"
    assert any(line.plain.endswith(words) for line in lines)


@pytest.mark.parametrize(
    "fields",
    [
        {"in_flight": 10, "full_for": 9.0},
        {"in_flight": 10, "full_for": 25.0, "usual_run": 2.6},
        {"in_flight": 9, "full_for": None, "usual_run": 0.1, "oldest_running": 900.0},
    ],
)
def test_a_busy_queue_is_not_stalled(fields: dict[str, Any]) -> None:
    busy = queue("weather-ingestion", **fields)
    assert rows(busy, 80)[0].plain[1] == "●"
