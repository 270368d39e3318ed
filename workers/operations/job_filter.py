"""Selects jobs and schedules, as it is written: ``queue:color-extraction worker:box-2 dress``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields

from storage.errors import InvalidFilterError
from workers.operations.job_views import JobSummary
from workers.operations.schedules import ScheduleView

PLACEHOLDER = "queue:color-extraction function:NAME worker:NAME words of key or error"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Selects what meets all conditions; None sets none.  The case of letters does not count."""

    queue: str | None = None
    function: str | None = None
    worker: str | None = None
    """Contained in host and pid of the process, or in its id."""
    text: str | None = None
    """Contained in the key, or in the error; of a schedule in its name."""

    @classmethod
    def parse(cls, query: str) -> JobFilter:
        """Parse a query.  Raises InvalidFilterError."""
        try:
            words = shlex.split(query)
        except ValueError:
            raise InvalidFilterError("a quotation mark is not closed", field="filter") from None
        conditions: dict[str, str] = {}
        free: list[str] = []
        for word in words:
            name, colon, value = word.partition(":")
            if colon and name in ("queue", "function", "worker"):
                if not value or name in conditions:
                    raise InvalidFilterError(
                        "is empty" if not value else "is given twice",
                        field=name,
                        fix=f"use one {name}:NAME",
                    )
                conditions[name] = value
            else:
                free.append(word)
        return cls(**conditions, text=" ".join(free) or None)

    def to_query(self) -> str:
        """Return the query that `parse` turns into this filter."""
        fields = ("queue", "function", "worker")
        words = [f"{name}:{getattr(self, name)}" for name in fields if getattr(self, name) is not None]
        return shlex.join([*words, *([self.text] if self.text is not None else [])])

    @property
    def searches(self) -> bool:
        """Whether jobs have to be read to be selected: the queue alone selects windows."""
        return any(getattr(self, field.name) is not None for field in fields(self) if field.name != "queue")

    def selects_job(self, job: JobSummary) -> bool:
        """Return whether a job meets the conditions."""
        return (
            self.queue in (None, job.queue)
            and _is_in(self.function, [job.function or ""])
            and _is_in(self.worker, [job.worker_name or "", job.worker or ""])
            and _is_in(self.text, [job.key, job.error or "", job.problem or ""])
        )

    def selects_schedule(self, schedule: ScheduleView) -> bool:
        """Return whether a schedule meets the conditions; none has a worker."""
        return (
            self.queue in (None, schedule.queue)
            and _is_in(self.function, [schedule.function])
            and self.worker is None
            and _is_in(self.text, [schedule.name])
        )


ALL_JOBS = JobFilter()


def _is_in(searched: str | None, texts: Sequence[str]) -> bool:
    return searched is None or any(searched.casefold() in text.casefold() for text in texts)
