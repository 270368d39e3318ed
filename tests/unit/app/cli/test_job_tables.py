"""Output of the commands on jobs and schedules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from app.cli.render.cron import schedules_text
from app.cli.render.jobs import job_text, jobs_text, stack_text
from workers.operations.job_views import JobAttempt, JobDetail, JobSummary
from workers.operations.jobs import JobStack, StackFrame
from workers.operations.schedules import ScheduleView
from workers.operations.why import Why

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUNS = JobSummary(
    queue="color-extraction",
    key="dress-17",
    state="running",
    version="running:w:1:1",
    function="extract_colors",
    status="active",
    attempt=3,
    max_attempts=4,
    started_at=NOON,
    running_for=31.2,
    usual_run=1.1,
    deadline_in=28.8,
    worker="5f0c",
    worker_name="box-2:4121",
    progress=0.4,
)
LATER = replace(RUNS, key="dress-18", state="scheduled", due_in=4.2, due_at=NOON, attempt=1)


def test_each_state_is_a_table_of_its_own() -> None:
    lines = jobs_text([RUNS, LATER]).splitlines()
    assert lines[0] == "running"
    assert lines[1].split() == (
        ["job", "queue", "function", "attempt", "running", "usually", "time", "left", "worker", "progress"]
    )
    assert lines[2].split() == (
        [
            "dress-17",
            "color-extraction",
            "extract_colors",
            "3/4",
            "31",
            "s",
            "1.1",
            "s",
            "29",
            "s",
            "box-2:4121",
            "40",
            "%",
        ]
    )
    assert lines[4] == "scheduled"
    assert "4.2 s" in lines[6]
    assert jobs_text([]) == "no jobs"


def test_a_table_fits_the_terminal_and_obeys_no_job() -> None:
    odd = replace(LATER, key="\x1b[31m\u202egnirts", problem="not a job: " + "x" * 200)
    text = jobs_text([odd], width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\\x1b[31m\\u202egnirts" in jobs_text([odd])


def test_a_job_is_shown_with_why_it_does_not_run_and_its_attempts() -> None:
    attempt = JobAttempt(1, NOON, "5f0c2b1e99", "ValueError", "no picture", None, 0.31, "v42", ("a line",))
    job = JobDetail(
        queue="color-extraction",
        key="dress-18",
        state="scheduled",
        version="",
        function="extract_colors",
        attempt=1,
        max_attempts=4,
        due_at=NOON,
        payload={"item_id": "ä"},
        attempts=[attempt],
        why=Why("scheduled", "retry 1 of 3, due in 4.2 s"),
    )
    assert job_text(job).splitlines() == [
        "dress-18 of color-extraction: scheduled",
        "why       retry 1 of 3, due in 4.2 s",
        "function  extract_colors",
        "attempt   1 of 4",
        "due       2026-03-01 12:00:00 UTC",
        "",
        "payload",
        "{",
        '  "item_id": "ä"',
        "}",
        "",
        "attempt 1 failed at 2026-03-01 12:00:00 UTC on 5f0c2b1e after 310 ms",
        "ValueError: no picture",
        "  log: a line",
    ]


def test_a_stack_begins_with_the_line_where_the_job_stands() -> None:
    frames = [StackFrame("shop/colors.py", 7, "extract"), StackFrame("httpx/_client.py", 88, "get")]
    assert stack_text(JobStack(frames, ["a line"])).split("\n")[2:] == [
        "where it is now",
        "  httpx/_client.py:88 in get",
        "  shop/colors.py:7 in extract",
        "",
        "log",
        "a line",
    ]


def test_a_disabled_schedule_says_who_disabled_it() -> None:
    weather = ScheduleView(
        "weather", "ingest_weather", "weather-ingestion", "*/15 * * * *", 900.0, True, NOON, None, 3, None
    )
    off = replace(
        weather, enabled=False, next_at=None, disabled_by="ops", disabled_at=NOON, disabled_reason="CDN"
    )
    text = schedules_text([weather, off])
    assert text.splitlines()[1].endswith("*/15 * * * *  2026-03-01 12:00:00  –          3")
    assert text.endswith("disabled by ops since 2026-03-01 12:00:00 UTC: CDN")
    assert schedules_text([]) == "no schedules"
