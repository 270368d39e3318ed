"""Lines of the screens, without a screen."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from rich.text import Text

from tests.support.fake_letters import letter
from tests.support.fake_moments import AWAY, BREACHED, HEALTHY, NOW, PARTLY_AWAY, queue, worker
from tui.text import dead_letters as letter_text
from tui.text import format as shown
from tui.text import queues as queue_text
from tui.text import snapshot as text
from tui.text.format import local_time
from tui.text.tabs import tab_line
from tui.text.verdict import queue_verdict
from tui.views import VIEWS
from workers.engine.histogram import Percentiles
from workers.engine.policy import RateLimit
from workers.monitoring.snapshot import Alert, AlertState, Pause, QueueSnapshot, Snapshot

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


def verdict(snapshot: Snapshot | None, width: int = 120, error: str | None = None, **options: Any) -> str:
    return text.verdict_line(snapshot, width, error, key=str, **({"well_for": None} | options)).plain


def test_the_verdict_shows_why_the_snapshot_is_old() -> None:
    line = verdict(HEALTHY, error="no answer for 5 s")
    assert "well" not in line
    assert "▲ these figures are old: no answer for 5 s" in line
    assert "2 more" in verdict(BREACHED, error="no answer for 5 s")
    assert "no answer" in verdict(None, error="no answer for 5 s")
    assert verdict(None) == ""
    assert "✔ all well" in verdict(HEALTHY)


def test_a_narrow_header_leaves_out_the_limit_before_a_word() -> None:
    slow = replace(HEALTHY, loop_lag=1.5)
    assert " prod · 3 workers" in text.header(slow, 80, None).plain
    assert "redis 212 MB  db ok  loop ▲ 1.5 s" in text.header(slow, 80, None).plain
    assert "redis 212 MB of 1.0 GB  db ok" in text.header(HEALTHY, 80, None).plain


@pytest.mark.parametrize("environment", ["prod", "production-eu-west-1", "x" * 200])
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_header_cuts_the_number_of_workers(environment: str, width: int) -> None:
    redis = replace(HEALTHY.redis, memory_used=int(0.96 * 2**30))
    dead = [replace(HEALTHY.workers[0], id=f"dead-{number}", state="dead") for number in range(2)]
    workers = (*(worker(number) for number in range(12)), *dead)
    wide = replace(HEALTHY, environment=environment, redis=redis, loop_lag=1.5, workers=workers)
    header = text.header(wide, width, None)
    assert header.cell_len <= width
    assert "· 12 workers" in header.plain
    assert ("▲2" if width < 100 else "2 dead") in header.plain
    assert header.plain.rstrip().endswith(local_time(wide.taken_at))


def test_all_well_shows_for_how_long() -> None:
    assert verdict(HEALTHY, well_for=11_520.0).startswith(" ✔ all well, for 3 h 12 min ")
    assert "for" not in verdict(HEALTHY, well_for=None)


def test_nothing_is_well_while_the_last_process_drains() -> None:
    draining = [replace(worker, state="draining", draining=True) for worker in HEALTHY.workers]
    one = replace(HEALTHY, workers=tuple(draining[:1]))
    line = verdict(one, well_for=60.0)
    assert line.startswith(" ◐ the only process drains: nothing new starts ")
    assert "well" not in line
    assert "all 3 processes drain" in verdict(replace(HEALTHY, workers=tuple(draining)))
    assert "all well" in verdict(replace(HEALTHY, workers=(*draining[1:], HEALTHY.workers[0])))
    judged = queue_verdict(one.queues[0], (), NOW, one.workers)
    assert (judged.sign, judged.text) == ("◐", "the only process drains: nothing new starts")
    others = (replace(one.workers[0], queues=("alert-fanout",)), HEALTHY.workers[1])
    assert queue_verdict(one.queues[0], (), NOW, others).sign == "●"


def test_the_verdict_shows_whether_the_worst_alert_will_pass_and_where_to_look() -> None:
    falling = (176, 169, 162, 155, 147, 139)
    clearing = replace(HEALTHY.queues[0], depth=132, recent_depths=falling)
    alert = Alert("weather-ingestion", "backlog", "132 queued, limit 100", since=NOW - 130)
    line = verdict(replace(HEALTHY, queues=(clearing,), alerts=(alert,)))
    assert "132 queued, limit 100, for 2 min · clears in 3 min" in line
    failing = replace(HEALTHY, alerts=(Alert("weather-ingestion", "failing", "7 % failed"),))
    assert "app.view-letters shows it" in verdict(failing)


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


def test_the_verdict_shows_since_when_and_a_pending_alert_only_if_none_fires() -> None:
    color, fanout = (
        Alert("color-extraction", "backlog", "132 queued", since=NOW - 130),
        Alert("alert-fanout", "failing", "7 % fail", state="acknowledged", since=NOW - 7_300),
    )
    states: tuple[AlertState, ...] = ("pending", "silenced")
    others = [replace(color, state=state) for state in states]
    line = verdict(replace(HEALTHY, alerts=(color, fanout, *others)))
    assert line.startswith(" ▲ color-extraction  132 queued, for 2 min ")
    assert "1 more  app.alerts alerts" in line
    line = verdict(replace(HEALTHY, alerts=(fanout, *others)))
    assert line.startswith(" ▲ alert-fanout  7 % fail, for 2 h ")
    assert "more" not in line
    line = verdict(replace(HEALTHY, alerts=tuple(others)), well_for=60.0)
    assert line.startswith(" ◐ pending: color-extraction  132 queued, for 2 min ")
    assert "well" not in line
    line = verdict(replace(HEALTHY, alerts=tuple(others[1:])))
    assert "all well" in line
    assert "1 silenced  app.alerts alerts" in line


def test_the_header_and_the_banner_show_which_of_several_redises_is_down() -> None:
    assert "redis ▲ 1 of 2 down" in text.header(PARTLY_AWAY, 120, None).plain
    line = text.banner(PARTLY_AWAY, 160)
    assert line is not None
    assert line.plain.startswith(
        " ▲ Redis of color-extraction does not answer: ConnectionError: connection refused"
    )
    assert "figures" not in line.plain


def test_the_banner_shows_which_server_is_unavailable_and_how_old_the_figures_are() -> None:
    line = text.banner(AWAY, 160, 72.0)
    assert line is not None
    assert "Redis does not answer: ConnectionError" in line.plain
    assert "the database does not answer: connection refused" in line.plain
    assert "figures are 1 min old · reconnecting" in line.plain
    assert text.banner(HEALTHY, 160) is None


def test_the_banner_shows_since_when_a_server_does_not_answer() -> None:
    silent = replace(
        HEALTHY,
        database=replace(HEALTHY.database, error="no answer for 2 s"),
        alerts=(Alert(None, "database", "the database does not answer: no answer for 2 s", since=NOW - 9),),
    )
    line = text.banner(silent, 120, 0.0)
    assert line is not None
    assert line.plain.startswith(f" ▲ the database has not answered since {local_time(NOW - 9)} ")
    assert "db ▲ down" in text.header(silent, 120, None).plain


@pytest.mark.parametrize(("width", "gap"), [(80, "  "), (120, "   ")])
def test_tabs_show_counts_and_the_columns_of_a_click(width: int, gap: str) -> None:
    line, columns = tab_line(VIEWS, "letters", BREACHED, width)
    titles = ("1 Overview ▲2", "2 Dead letters 2", "3 Jobs 168", "4 Workers 3", "5 Cache", "6 Events")
    assert line.plain.strip() == gap.join(titles)
    assert line.plain[columns["cache"].start : columns["cache"].stop] == " 5 Cache "


def test_tabs_that_do_not_fit_have_their_keys() -> None:
    line, columns = tab_line(VIEWS, "letters", BREACHED, 40)
    assert line.plain == " 1 ▲2  2 Dead letters 2  3 168  4 3  5   6  "
    assert list(columns) == [view.name for view in VIEWS]


@pytest.mark.parametrize("current", [view.name for view in VIEWS])
def test_tabs_are_shortened_evenly_but_for_the_open_view(current: str) -> None:
    dead = [replace(HEALTHY.workers[0], id="dead", state="dead")]
    wrong = replace(BREACHED, dead_letters=108, workers=(*HEALTHY.workers[:2], *dead))
    line, columns = tab_line(VIEWS, current, wrong, 80)
    assert line.cell_len <= 80
    words = {name: line.plain[span.start : span.stop].split() for name, span in columns.items()}
    for view in VIEWS:
        if view.name == current:
            assert f" {view.key} {view.title} " in line.plain
        else:
            assert view.title.startswith(words[view.name][1])
            assert len(words[view.name][1]) >= 4


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_error_keeps_the_servers_in_the_header(width: int) -> None:
    line = text.header(AWAY, width, "ConflictError: " + "x" * 45).plain
    assert len(line) == width
    assert line.endswith("14:32:07 ")
    assert "db ▲ down" in line


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


@pytest.mark.parametrize(("width", "words"), [(80, "1 worker ▲2 "), (120, "1 worker · 1 blocked · 1 dead ")])
def test_the_header_counts_neither_dead_nor_blocked_workers(width: int, words: str) -> None:
    living, dead, blocked = HEALTHY.workers
    workers = (living, replace(dead, state="dead"), replace(blocked, state="blocked"))
    line = text.header(replace(HEALTHY, workers=workers), width, None).plain
    assert words in line
    assert line.endswith("14:32:07 ")
