"""Messages that open another screen: screens and dialogs post them, the dashboard pushes it."""

from __future__ import annotations

from textual.message import Message

from workers.operations.jobs import JobSummary
from workers.operations.operations import CacheEntry, DeadLetter, LetterFilter


class OpenView(Message):
    """Show another view, by the name of its tab."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class OpenQueue(Message):
    """Show all of one queue."""

    def __init__(self, queue: str) -> None:
        super().__init__()
        self.queue = queue


class OpenWorker(Message):
    """Show all of one worker process."""

    def __init__(self, worker_id: str) -> None:
        super().__init__()
        self.worker_id = worker_id


class OpenJob(Message):
    """Show all of one job."""

    def __init__(self, job: JobSummary) -> None:
        super().__init__()
        self.job = job


class OpenLetters(Message):
    """Show the dead letters that match a filter."""

    def __init__(self, letter_filter: LetterFilter) -> None:
        super().__init__()
        self.letter_filter = letter_filter


class OpenLetter(Message):
    """Show all of one dead letter."""

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__()
        self.letter = letter


class OpenPlan(Message):
    """Show how a replay plan goes."""

    def __init__(self, plan_id: int) -> None:
        super().__init__()
        self.plan_id = plan_id


class OpenPlanLetters(Message):
    """Show the letters of a replay plan."""

    def __init__(self, plan_id: int) -> None:
        super().__init__()
        self.plan_id = plan_id


class OpenPlans(Message):
    """Show the newest replay plans."""


class OpenCacheEntry(Message):
    """Show one cache entry and its value."""

    def __init__(self, entry: CacheEntry) -> None:
        super().__init__()
        self.entry = entry
