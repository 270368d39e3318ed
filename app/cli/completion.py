"""Values that the shell completes: names of queues and states, and ids from the database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from workers.engine.policy import DEFAULT_POLICIES

LETTER_STATES = ("dead", "replayed", "discarded", "all")
ITEM_STATES = ("waiting", "enqueued", "completed", "same", "other", "aborted", "skipped")
"""States of a plan's letters: the fields of a `Ledger`."""
ENVIRONMENTS = ("dev", "staging", "prod")
"""Those that have databases at Upstash."""
JOB_STATES = ("running", "ready", "scheduled", "done", "failed")
SCHEDULES = ("weather",)
VIEWS = ("overview", "letters", "jobs", "workers", "cache", "events")
"""The dashboard's, in the order of their keys."""
EXPORT_FORMATS = ("jsonl", "csv", "markdown")

Completions = Sequence[str | tuple[str, str]]
"""Values, some with a description."""


def complete_queue() -> Completions:
    """Return the names of the queues."""
    return list(DEFAULT_POLICIES)


def complete_letter_state() -> Completions:
    """Return the states of dead letters."""
    return LETTER_STATES


def complete_item_state() -> Completions:
    """Return the states of a plan's letters."""
    return ITEM_STATES


def complete_job_state() -> Completions:
    """Return the states of jobs."""
    return JOB_STATES


def complete_schedule() -> Completions:
    """Return the names of the schedules."""
    return SCHEDULES


def complete_view() -> Completions:
    """Return the names of the dashboard's views."""
    return VIEWS


def complete_format() -> Completions:
    """Return the formats of an export."""
    return EXPORT_FORMATS


def complete_environment() -> Completions:
    """Return the environments at Upstash."""
    return ENVIRONMENTS


def complete_event_kind() -> Completions:
    """Return the kinds of events."""
    from storage.database.events import EVENT_KINDS

    return EVENT_KINDS


def complete_alert() -> Completions:
    """Return the names of the alerts, each with its title."""
    from workers.monitoring.alert_rules import RULES

    return [(rule.name, rule.title) for rule in RULES]


def complete_letter(context: typer.Context) -> Completions:
    """Return the ids of the newest letters, whatever their state."""
    from app.cli import recent_ids

    return recent_ids.letters(_data_dir(context), None)


def complete_dead_letter(context: typer.Context) -> Completions:
    """Return the ids of the newest letters that are dead."""
    from app.cli import recent_ids

    return recent_ids.letters(_data_dir(context), "dead")


def complete_discarded_letter(context: typer.Context) -> Completions:
    """Return the ids of the newest letters that are discarded."""
    from app.cli import recent_ids

    return recent_ids.letters(_data_dir(context), "discarded")


def complete_worker(context: typer.Context) -> Completions:
    """Return the ids of the processes that have started, and not ended."""
    from app.cli import recent_ids

    return recent_ids.workers(_data_dir(context))


def complete_plan(context: typer.Context) -> Completions:
    """Return the ids of the newest plans."""
    from app.cli import recent_ids

    return recent_ids.plans(_data_dir(context))


def complete_job(context: typer.Context) -> Completions:
    """Return the keys of jobs of the queue that the line names."""
    from app.cli import recent_ids

    queue = context.params.get("queue")
    return recent_ids.jobs(_data_dir(context), queue) if queue else []


def _data_dir(context: typer.Context) -> Path | None:
    """Return the data directory that the line names."""
    return context.params.get("data_dir") or context.find_root().params.get("data_dir")
