"""Running jobs that stand at the same line are one finding, not many.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from workers.monitoring.snapshot import Snapshot
from workers.operations.job_stacks import JobStack, StackFrame
from workers.operations.job_views import JobSummary, queue_of, worker_name, worker_of


@dataclass(frozen=True, slots=True)
class TakenSlots:
    """The number of a queue's slots that the jobs of a finding take; ``concurrency`` None: not known."""

    queue: str
    taken: int
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Running jobs that stand at the same line."""

    frame: StackFrame
    """The line at which they stand."""
    jobs: tuple[JobSummary, ...]
    """The one that has run the longest first."""
    workers: tuple[str, ...]
    """Host and pid of the processes that run them."""
    releases: tuple[str, ...]
    """Releases of these processes, if they are known."""
    since: datetime | None
    """When the first of them started."""
    running_for: float | None
    """Seconds since then."""
    release_age: float | None
    """Seconds between the start of the first process of their release and ``since``; None if not known."""
    slots: tuple[TakenSlots, ...]

    def has(self, queue: str, key: str) -> bool:
        """Return whether a job is one of them."""
        return any((job.queue, job.key) == (queue, key) for job in self.jobs)


def find_alike(
    jobs: Sequence[JobSummary], stacks: Mapping[tuple[str, str], JobStack], snapshot: Snapshot
) -> list[Finding]:
    """Return the lines at which two running jobs or more stand, that with the most jobs first."""
    groups: dict[tuple[str, int, str], list[JobSummary]] = {}
    frames: dict[tuple[str, int, str], StackFrame] = {}
    for job in jobs:
        stack = stacks.get((job.queue, job.key))
        frame = stack.line if stack is not None and job.state == "running" else None
        if frame is not None:
            line = (frame.file, frame.line, frame.function)
            frames[line] = frame
            groups.setdefault(line, []).append(job)
    findings = [_finding(frames[line], group, snapshot) for line, group in groups.items() if len(group) > 1]
    return sorted(findings, key=lambda finding: (-len(finding.jobs), finding.frame.file, finding.frame.line))


def _finding(frame: StackFrame, group: Sequence[JobSummary], snapshot: Snapshot) -> Finding:
    jobs = tuple(sorted(group, key=lambda job: -(job.running_for or 0.0)))
    ids = {job.worker for job in jobs if job.worker is not None}
    processes = {id_: worker_of(snapshot, id_) for id_ in ids}
    running_releases = {process.release for process in processes.values() if process is not None}
    releases = tuple(sorted(release for release in running_releases if release is not None))
    return Finding(
        frame,
        jobs,
        workers=tuple(sorted({worker_name(id_, process) for id_, process in processes.items()})),
        releases=releases,
        since=jobs[0].started_at,
        running_for=jobs[0].running_for,
        release_age=_release_age(releases, jobs[0].started_at, snapshot),
        slots=tuple(_slots(name, taken, snapshot) for name, taken in _by_queue(jobs)),
    )


def _release_age(releases: Sequence[str], since: datetime | None, snapshot: Snapshot) -> float | None:
    """Return how long their release had run when the first of them started."""
    up = [worker.up_for for worker in snapshot.workers if worker.release in releases]
    up_times = [seconds for seconds in up if seconds is not None]
    if len(releases) != 1 or since is None or not up_times:
        return None
    began = datetime.fromtimestamp(snapshot.taken_at - max(up_times), UTC)
    return max(0.0, (since - began).total_seconds())


def _by_queue(jobs: Sequence[JobSummary]) -> list[tuple[str, int]]:
    return Counter(job.queue for job in jobs).most_common()


def _slots(name: str, taken: int, snapshot: Snapshot) -> TakenSlots:
    queue = queue_of(snapshot, name)
    return TakenSlots(name, taken, None if queue is None else queue.concurrency)
