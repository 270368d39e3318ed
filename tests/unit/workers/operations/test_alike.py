"""Running jobs that stand at the same line are one finding."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.cli.render.jobs import finding_document, findings_text
from tests.support.fake_jobs import job
from tests.support.fake_moments import HEALTHY, NASTY
from tests.support.fake_workers import DRAINING, RUNNING
from workers.operations.alike import find_alike
from workers.operations.job_stacks import JobStack, StackFrame

NOW = datetime.fromtimestamp(HEALTHY.taken_at, UTC)
CLUSTER = replace(HEALTHY, workers=(RUNNING, replace(DRAINING, up_for=180.0)))
DOWNLOAD = StackFrame("shop/color.py", 88, "download", own=True)
LIBRARY = StackFrame("httpx/_client.py", 394, "send")


def stack(*frames: StackFrame) -> JobStack:
    return JobStack(frames)


def test_jobs_are_grouped_by_the_innermost_line_of_the_handlers_code() -> None:
    ids = {"a": RUNNING.id, "b": DRAINING.id, "c": DRAINING.id}
    jobs = [
        job(key, worker=worker, worker_name=None, running_for=age, started_at=NOW - timedelta(seconds=age))
        for (key, worker), age in zip(ids.items(), (31.0, 29.0, 2.0), strict=True)
    ]
    jobs.append(job("d", queue="weather-ingestion"))
    jobs.append(job("alone", queue="weather-ingestion"))
    jobs.append(job("silent"))
    stacks = {("color-extraction", key): stack(DOWNLOAD, LIBRARY) for key in "ab"}
    stacks["color-extraction", "c"] = stack(DOWNLOAD, StackFrame("asyncio/locks.py", 213, "wait"))
    stacks["weather-ingestion", "d"] = stack(DOWNLOAD)
    stacks["weather-ingestion", "alone"] = stack(LIBRARY)
    (finding,) = find_alike(jobs, stacks, CLUSTER)
    assert finding.frame == DOWNLOAD
    assert {one.key for one in finding.jobs} == {"a", "b", "c", "d"}
    assert (finding.workers, finding.releases) == (("box-1:991", "box-2:992", "w2"), ("7f3c2a1",))
    assert (finding.since, finding.running_for) == (NOW - timedelta(seconds=31), 31.0)
    assert finding.release_age == RUNNING.up_for - 31.0  # type: ignore[operator]
    assert [(slots.queue, slots.taken, slots.concurrency) for slots in finding.slots] == [
        ("color-extraction", 3, 5), ("weather-ingestion", 1, 10)
    ]  # fmt: skip
    text = findings_text([finding])
    assert text.startswith("4 running jobs stand at shop/color.py:88 in download\n")
    assert "3 of 5 slots of color-extraction" in text
    assert next(one["key"] for one in finding_document(finding)["jobs"]) in ("a", "d")


def test_one_job_and_jobs_without_frames_make_no_finding() -> None:
    jobs = [job("a"), job("b"), job("c", "ready")]
    queue = "color-extraction"
    assert find_alike(jobs, {(queue, "a"): stack(DOWNLOAD)}, CLUSTER) == []
    assert find_alike(jobs, {(queue, "a"): stack(), (queue, "b"): stack()}, CLUSTER) == []
    assert find_alike(jobs, {(queue, "a"): stack(DOWNLOAD), (queue, "c"): stack(DOWNLOAD)}, CLUSTER) == []
    assert findings_text([]) == "no running jobs stand at the same line"


def test_the_most_frequent_line_comes_first_and_nothing_in_it_is_obeyed() -> None:
    hostile = StackFrame(NASTY, 1, NASTY)
    jobs = [job(str(number), worker_name=NASTY, worker=NASTY) for number in range(5)]
    stacks = {
        ("color-extraction", str(number)): stack(hostile if number > 1 else DOWNLOAD) for number in range(5)
    }
    first, second = find_alike(jobs, stacks, replace(CLUSTER, workers=()))
    assert (len(first.jobs), len(second.jobs)) == (3, 2)
    assert first.release_age is None
    assert not {"\x1b", "\x07", "\u202e"} & set(findings_text([first, second]))
