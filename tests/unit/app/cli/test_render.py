"""Snapshots, dead letters and plans as commands print them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.cli import output
from app.cli.render.alerts import alerts_text, history_text
from app.cli.render.dead_letters import groups_text, letter_text, letters_text, listed, preview_text
from app.cli.render.plans import items_text, ledger_text, plan_text, plans_text, progress_text
from storage.dead_letters.plans import Ledger, Plan, PlanItem
from storage.dead_letters.records import DeadLetter, FailureGroup
from storage.repositories.alert_history import AlertRecord
from tests.support.fake_operations import HEALTHY, NOW
from workers.monitoring.snapshot import Alert
from workers.operations.alerts import current_alerts
from workers.operations.selection import Preview

HOSTILE = "\x1b[31mred\x1b[0m \x07\r\x00\x9b2J \u202e"
AT = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC)
LETTER = DeadLetter(
    uid="u1",
    queue_name="color-extraction",
    job_id="job-1",
    function="extract_colors",
    job_data={"function": "extract_colors", "kwargs": {"item_id": "dress-17", "image": "dress.jpg"}},
    error_type="PermanentError",
    error_message="no file 'dress.jpg'",
    traceback=None,
    fingerprint="f",
    attempts=2,
    attempt_errors=[
        {
            "attempt": number,
            "at": AT.timestamp() + number,
            "worker": "w1",
            "error_type": "PermanentError",
            "message": f"message {number}",
            "traceback": "Traceback (most recent call last):\n  boom\n" if number == 2 else None,
            "run_seconds": 0.25,
        }
        for number in (1, 2)
    ],
    worker="w1",
    enqueued_at=AT,
    failed_at=AT,
    replay_of=None,
    id=17,
    state="dead",
    replay_count=0,
    root_id=None,
    deaths=1,
    replayed_at=None,
)


def control_characters(text: str) -> list[str]:
    return re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


STATES = (
    Alert("color-extraction", "backlog", "132 queued, limit 100", since=NOW - 150),
    Alert(
        "alert-fanout",
        "failing",
        "7% \x1b[31mof attempts failed",
        state="acknowledged",
        since=NOW - 7_300,
        acknowledged_by="anna",
    ),
    Alert(None, "redis", "Redis does not answer", "critical", state="pending"),
    Alert(
        "color-extraction",
        "slow",
        "wait p95 4.1 s",
        state="silenced",
        since=NOW - 3 * 86_400,
        silenced_by="bo",
        silenced_until=NOW + 600,
        silence_reason="CDN is down",
    ),
)


def test_a_list_of_alerts_has_a_row_for_each() -> None:
    shown = alerts_text(current_alerts(replace(HEALTHY, alerts=STATES)))
    head, first, second, third, last = shown.split("\n")
    assert head.split("  ")[0] == "state"
    assert first.split()[:5] == ["firing", "backlog", "color-extraction", "2", "min"]
    assert second.endswith("acknowledged by anna")
    assert third.split()[:4] == ["pending", "redis", "–", "–"]
    assert last.endswith("silenced by bo until 03-01 14:42: CDN is down")
    assert control_characters(shown) == []
    assert alerts_text([]) == "no alerts"


def test_the_history_shows_when_an_alert_fired_and_how_long_it_lasted() -> None:
    record = AlertRecord(
        id=1,
        alert="backlog",
        queue="color-extraction",
        subject="",
        state="resolved",
        fired_at=AT,
        resolved_at=AT + timedelta(minutes=4),
        value=90.0,
        peak=132.0,
        message="132 queued\x1b[31m",
        acknowledged_by="anna",
        acknowledged_at=AT,
        silenced_by=None,
        silenced_until=None,
        silence_reason=None,
        notified={},
    )
    shown = history_text([record, replace(record, queue="", state="firing", resolved_at=None)])
    _, ended, open_ = shown.split("\n")
    assert ended.split()[:6] == ["2026-03-01", "14:32:07", "4", "min", "resolved", "backlog"]
    assert ended.endswith("acknowledged by anna")
    assert open_.split()[2:6] == ["–", "firing", "backlog", "–"]
    assert control_characters(shown) == []
    assert history_text([]) == "no alerts"


def test_a_list_has_a_row_for_each_letter() -> None:
    second = replace(LETTER, id=8, attempts=4, error_message="x" * 300)
    head, first, other = letters_text([LETTER, second]).split("\n")
    assert head.split() == ["id", "failed", "at", "queue", "job", "att", "error"]
    assert first.startswith("17  2026-03-01 14:32:07  color-extraction  job-1    2  PermanentError: no file")
    assert other.startswith(" 8  ")
    assert len(other) < 170


def test_an_empty_list_is_a_line_of_text() -> None:
    assert letters_text([]) == "no dead letters"


def test_a_letter_is_one_row_whatever_it_holds() -> None:
    hostile = replace(LETTER, job_id=f"a\nb{HOSTILE}", error_message=f"first\nsecond {HOSTILE}")
    shown = letters_text([hostile])
    assert len(shown.split("\n")) == 2
    assert control_characters(shown) == []


def test_a_letter_shows_its_payload_and_every_attempt() -> None:
    shown = letter_text(LETTER)
    assert shown.startswith("17  color-extraction  extract_colors  job job-1\n")
    assert "state dead · 2 attempts · failed at 2026-03-01 14:32:07 UTC" in shown
    assert '  "item_id": "dress-17"' in shown
    assert "attempt 1 at 2026-03-01 14:32:08 on w1, release –, ran 250 ms\nmessage 1" in shown
    traceback = "Traceback (most recent call last):\n  boom"
    assert f"attempt 2 at 2026-03-01 14:32:09 on w1, release –, ran 250 ms\n{traceback}" in shown


def test_a_letter_whose_job_could_not_be_read_shows_its_bytes() -> None:
    assert '"unreadable": "\\\\xff"' in letter_text(replace(LETTER, job_data={"unreadable": "\\xff"}))


def test_what_a_payload_holds_is_printed_and_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"kwargs": {"item_id": HOSTILE, "image": "\ud800"}}
    output.print_text(letter_text(replace(LETTER, job_data=data, error_message=HOSTILE, job_id=HOSTILE)))
    shown = capsys.readouterr().out
    assert control_characters(shown) == []
    assert "\\x1b[31mred" in shown
    assert "\\x9b2J" in shown
    assert "\\u202e" in shown
    assert "\\ud800" in shown
    assert '"item_id"' in shown


@pytest.mark.parametrize("odd", [1e300, -1e300, 10**400, math.nan, math.inf, None, "nan", "soon", []])
def test_an_attempt_whose_times_cannot_be_read_is_shown_with_dashes(odd: Any) -> None:
    attempt = {**LETTER.attempt_errors[0], "at": odd, "run_seconds": odd}
    shown = letter_text(replace(LETTER, attempt_errors=[attempt, {}]))
    assert "attempt 1 at – on w1, release –, ran –\nmessage 1" in shown
    assert shown.endswith("attempt – at – on –, release –, ran –\n–")


def test_on_a_terminal_a_row_is_cut_to_its_width() -> None:
    long = replace(LETTER, job_id="0123456789" * 3, error_message="x" * 300, queue_name="weather-ingestion")
    for width in (60, 80, 120, 200):
        head, row = letters_text([long], width=width).split("\n")
        assert len(row) <= width
        assert row.endswith("…") == (width < 170)
        assert ("att" in head.split()) == (width >= 120)


def test_a_list_of_letters_in_several_states_has_their_states() -> None:
    shown = letters_text([replace(LETTER, state="discarded"), LETTER], states=True)
    assert [line.split()[6] for line in shown.split("\n")[1:]] == ["discarded", "dead"]


def test_letters_that_died_thrice_of_the_same_error_have_a_sign() -> None:
    poison = replace(LETTER, deaths=3)
    assert "×" not in letters_text([LETTER])
    assert "17  ×3  2026" in letters_text([poison])
    assert "×3 died 3 times in a row of the same error, so bulk replays exclude it" in letter_text(poison)
    assert "×" not in letter_text(LETTER)


def item(letter_id: int, state: str, **changes: Any) -> PlanItem:
    made = PlanItem(letter_id, 3, letter_id, state, None, None, AT, None)
    return replace(made, **changes)


def test_a_letter_shows_what_it_came_of_and_what_came_of_it() -> None:
    first = replace(LETTER, id=11, state="replayed")
    second = replace(LETTER, replay_of=11, error_message="another")
    shown = letter_text(
        second, [(first, [item(11, "other")]), (second, [item(17, "skipped", note="gone\n")])]
    )
    assert shown.split("lineage\n")[1].split("\n\n")[0].split("\n") == [
        "  letter 11: 2026-03-01 14:32:07  PermanentError: no file 'dress.jpg'",
        "    plan 3  2026-03-01 14:32:07  died, other error",
        "  letter 17 (this one), of letter 11: 2026-03-01 14:32:07  PermanentError: another",
        "    plan 3  2026-03-01 14:32:07  skipped: gone\\x0a",
    ]
    assert "lineage" not in letter_text(LETTER, [(LETTER, [])])


GROUP = FailureGroup("0123456789abcdef", 1234, AT, AT, (0,) * 22 + (1, 8), LETTER)


def test_a_group_has_three_lines() -> None:
    small = replace(GROUP, count=7, sample=replace(LETTER, error_message=HOSTILE))
    shown = groups_text([GROUP, small], width=80).split("\n")
    assert shown[:4] == [
        "1,234  ······················▁█  2026-03-01 14:32 – 2026-03-01 14:32",
        "       group 0123456789abcdef  newest 17  color-extraction  extract_colors",
        "       PermanentError: no file 'dress.jpg'",
        "",
    ]
    assert shown[4].startswith("    7  ·")
    assert len(shown) == 7
    assert control_characters("\n".join(shown)) == []
    assert groups_text([]) == "no dead letters"


def test_a_preview_counts_the_letters_and_names_the_excluded_ones() -> None:
    many = Preview((), 1234, 5, 0, {"alert-fanout": 234, "color-extraction": 1000}, [GROUP], 250.0)
    assert preview_text(many, (), replay=True).split("\n") == [
        "1,234 letters selected",
        "    1,000  color-extraction",
        "      234  alert-fanout",
        "1 group:",
        "    1,234  PermanentError: no file 'dress.jpg'",
        "excluded: 5 letters that died 3 times or more in a row of the same error (--poison includes them)",
        "takes at least 4 min 10 s, by its rate and the queues' own limits",
    ]
    assert "at least" not in preview_text(many, (), replay=False)
    few = Preview((1,), 1, 0, 2, {"alert-fanout": 1}, (), 0.0)
    assert preview_text(few, (2, 3), replay=True) == (
        "1 letter selected, of alert-fanout\nexcluded: 2 letters that are not dead: 2, 3"
    )
    assert listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 others"


PLAN = Plan(
    actor="ops@box-2",
    reason="shop is open",
    selection={"filter": "queue:color-extraction"},
    canary=10,
    rate=2.5,
    halt=0.2,
    id=12,
    created_at=AT,
    total=1234,
    state="running",
    note="",
    ended_at=None,
    ledger=Ledger(waiting=1000, enqueued=34, completed=190, same=6, other=2, aborted=1, skipped=1),
    active=True,
)


def test_a_plan_shows_its_maker_selection_options_and_ledger() -> None:
    assert plan_text(PLAN).split("\n") == [
        "plan 12 is running",
        "made at 2026-03-01 14:32:07 UTC by ops@box-2: shop is open",
        "of 1,234 letters: queue:color-extraction",
        "canary of 10 first · 2.5 a second · halts when more than 20 % die again",
        "",
        *ledger_text(PLAN.ledger).split("\n"),
    ]
    assert [line.rsplit(maxsplit=1) for line in ledger_text(PLAN.ledger).split("\n")] == [
        ["replayed", "233"],
        ["  completed", "190"],
        ["  running", "34"],
        ["  died, same error", "6"],
        ["  died, other error", "2"],
        ["  aborted", "1"],
        ["skipped", "1"],
        ["waiting", "1,000"],
    ]
    assert progress_text(PLAN.ledger) == "190 completed, 8 died again, 1 skipped"


def test_a_plan_that_no_process_runs_is_interrupted() -> None:
    left = replace(
        PLAN, active=False, halt=1.0, rate=None, canary=0, selection={"ids": [1, 2], "count": 1002}
    )
    assert plan_text(left).startswith(
        "plan 12 is interrupted\nto resume: couturecast-tui failed-jobs resume 12\n"
    )
    assert "letters 1, 2 and 1,000 others" in plan_text(left)
    assert "no canary · no rate limit · never halts" in plan_text(left)
    rows = plans_text([PLAN, left]).split("\n")
    assert [row.split()[3] for row in rows[1:]] == ["running", "interrupted"]
    assert all(len(row) <= 80 for row in plans_text([replace(PLAN, total=10**7)] * 2, width=80).split("\n"))
    assert plans_text([]) == "no plans: failed-jobs replay makes them"


def test_a_plan_is_not_called_running_if_redis_does_not_answer() -> None:
    unknown = replace(PLAN, active=None)
    assert plan_text(unknown).startswith("plan 12 should run: Redis does not answer whether a process")
    assert plans_text([unknown]).split("\n")[1].split()[3] == "unknown"


def test_the_letters_of_a_plan_have_a_row_each() -> None:
    shown = items_text([item(7, "skipped", note=HOSTILE, enqueued_at=None), item(8, "same", kwargs={})])
    head, skipped, same = shown.split("\n")
    assert head.split() == ["letter", "state", "enqueued", "at", "ended", "at"]
    assert skipped.split()[:4] == ["7", "skipped", "–", "–"]
    assert same.split()[:2] == ["8", "same"]
    assert same.endswith("with another payload")
    assert control_characters(shown) == []
    assert items_text([]) == "no letters"


def test_a_letter_and_its_group_show_their_releases() -> None:
    letter = replace(LETTER, release="v2.1", attempt_errors=[LETTER.attempt_errors[0] | {"release": "v2.1"}])
    shown = letter_text(letter)
    assert " · release v2.1\n" in shown
    assert "on w1, release v2.1, ran 250 ms" in shown
    assert " · release –\n" in letter_text(LETTER)
    assert groups_text([replace(GROUP, releases=("v2.1", "v2.0"))]).endswith("\n       in v2.1, v2.0")
