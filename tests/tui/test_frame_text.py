"""The lines that every screen has: header, tabs, verdict, and banner in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.fake_moments import AWAY, BREACHED, HEALTHY, NOW, PARTLY_AWAY, worker
from tests.tui.test_text import styled
from tui.text import snapshot as text
from tui.text.format import local_time
from tui.text.tabs import tab_line
from tui.text.verdict import queue_verdict
from tui.views import VIEWS
from workers.monitoring.snapshot import Alert, AlertState, DrainSnapshot, Snapshot


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
    assert "redis 212 MB  db ok  loop 1.5 s" in text.header(slow, 80, None).plain
    assert "redis 212 MB of 1.0 GB  db ok" in text.header(HEALTHY, 80, None).plain


def test_the_header_does_not_show_a_redis_that_takes_no_writes_as_fine() -> None:
    replica = replace(HEALTHY, redis=replace(HEALTHY.redis, refuses_writes="is a read-only replica"))
    for width in (80, 160):
        assert "redis ▲ no writes  db ok" in text.header(replica, width, None).plain


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
    pending = Alert("weather-ingestion", "failing", "7 % failed", state="pending", since=NOW - 9)
    firing = replace(pending, state="firing")
    assert "the only process drains" in verdict(replace(one, alerts=(pending,)))
    assert "1 more" in verdict(replace(one, alerts=(pending,)))
    assert verdict(replace(one, alerts=(firing,)), 160).startswith(
        " ◐ the only process drains: nothing new starts  ▲ weather-ingestion  7 % failed, for 9 s "
    )
    assert verdict(replace(one, alerts=(firing,)), 80).startswith(
        " ◐ draining  ▲ weather-ingestion  for 9 s  7 % failed "
    )
    assert queue_verdict(one.queues[0], (pending,), NOW, one.workers).short == "draining"
    assert queue_verdict(one.queues[0], (firing,), NOW, one.workers).text == "7 % failed"
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


def test_a_narrow_verdict_does_not_cut_for_how_long_an_alert_lasts() -> None:
    message = "30.4 % of attempts failed, limit 5 %"
    failing = replace(HEALTHY, alerts=(Alert("color-extraction", "failing", message, since=NOW - 180),) * 2)
    keys = {"app.alerts": "a", "app.view-letters": "2"}
    line = text.verdict_line(failing, 80, None, key=keys.__getitem__, well_for=None).plain
    assert line.startswith(" ▲ color-extraction  for 3 min  30.4 % of attempts failed")
    assert line.endswith("…  1 more  a alerts ")


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


def test_others_are_as_urgent_as_the_worst_is() -> None:
    for state, style in (("pending", "watch"), ("firing", "breach")):
        alerts = tuple(
            Alert("weather-ingestion", name, "x", state=state, since=NOW - 0.4)  # type: ignore[arg-type]
            for name in ("backlog", "slow")
        )
        line = text.verdict_line(replace(HEALTHY, alerts=alerts), 120, None, key=str, well_for=None)
        assert " 1 more" in styled(line, style)
        assert ", for" not in line.plain


def test_an_alert_has_the_room_of_the_weather_on_a_narrow_screen() -> None:
    offline = replace(BREACHED, weather_provider="offline")
    assert "weather" not in verdict(offline, 80)
    assert "weather: offline" in verdict(offline, 120)
    assert "weather: offline" in verdict(replace(HEALTHY, weather_provider="offline"), 80)


def test_full_memory_has_a_sign_at_any_width() -> None:
    full = replace(HEALTHY, redis=replace(HEALTHY.redis, memory_used=int(0.88 * 2**30)))
    for width in (80, 120, 160):
        assert "▲ 88 %" in text.header(full, width, None).plain


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_drain_of_this_process_names_the_keys(width: int) -> None:
    drain = DrainSnapshot(22.0, undoable=True, by=None)
    workers = (replace(HEALTHY.workers[0], state="draining", draining=True, drain=drain),)
    keys = {"app.view-events": "6", "app.put-back": "!", "events.undo-drain": "u"}
    draining = replace(HEALTHY, drain_deadline_in=22.0, workers=workers)
    line = text.banner(draining, width, key=keys.__getitem__)
    assert line is not None
    assert "22 s left" in line.plain
    assert "! requeues now" in line.plain
    assert "u undoes it in 6" in line.plain
    alert = Alert("weather-ingestion", "backlog", "132 queued, limit 100", since=NOW - 130)
    line = text.banner(replace(draining, alerts=(alert,)), width, key=keys.__getitem__)
    assert line is not None
    for words in ("22 s left", "! requeues now", "u undoes it in 6"):
        assert words in line.plain
    shown = {80: "", 120: "  ▲ weather-ingestion  132 queued", 160: "132 queued, limit 100, for 2 min"}
    assert shown[width] in line.plain
    assert ("▲" in line.plain) is (width > 80)


@pytest.mark.parametrize(("width", "words"), [(80, "1 worker ▲2 "), (120, "1 worker · 1 blocked · 1 dead ")])
def test_the_header_counts_neither_dead_nor_blocked_workers(width: int, words: str) -> None:
    living, dead, blocked = HEALTHY.workers
    workers = (living, replace(dead, state="dead"), replace(blocked, state="blocked"))
    line = text.header(replace(HEALTHY, workers=workers), width, None).plain
    assert words in line
    assert line.endswith("14:32:07 ")
