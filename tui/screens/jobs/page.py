"""The state of the view of jobs, and the page that it reads for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tui.text.jobs import TABS
from workers.operations.job_filter import ALL_JOBS, JobFilter
from workers.operations.jobs import JobCounts, JobSummary
from workers.operations.schedules import ScheduleView


@dataclass(frozen=True, slots=True)
class Listed:
    """A state, or the schedules, and what of them is selected."""

    tab: str = TABS[0]
    selected: JobFilter = ALL_JOBS


@dataclass(frozen=True, slots=True)
class JobPage:
    """All that was read at once.  ``schedules`` only if they are listed."""

    items: Sequence[JobSummary]
    next: str | None
    counts: dict[str, JobCounts]
    schedules: Sequence[ScheduleView] = ()
    last_done: Sequence[JobSummary] = ()
    """Some that were done last, if none runs."""
    is_cut: bool = False
    """Whether there are more jobs than are read to be sorted."""
