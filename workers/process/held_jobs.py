"""The jobs that a process holds, for those who watch it."""

from __future__ import annotations

from collections.abc import Iterable

from workers.engine.attempt_log import LogLine, newest_lines
from workers.engine.dispatcher import Dispatcher
from workers.process.watchdog import HeldJob


def held_jobs(dispatchers: Iterable[Dispatcher]) -> list[HeldJob]:
    """Return the jobs in flight; called by the heartbeat's thread."""
    return [
        HeldJob(
            queue=dispatcher.queue.name,
            key=running.job.key,
            function=dispatcher.runner.functions.get(running.job.function),
            task=running.task,
            deadline=running.started + dispatcher.queue.policy.timeout,
        )
        for dispatcher in dispatchers
        for running in list(dispatcher.runner.running.values())
    ]


def log_lines(dispatchers: Iterable[Dispatcher]) -> list[LogLine]:
    """Return the newest lines of this process and of each of the jobs in flight, the oldest of them first."""
    of_jobs = (
        line
        for dispatcher in dispatchers
        for running in dispatcher.runner.running.values()
        for line in running.lines or ()
    )
    return sorted(dict.fromkeys([*newest_lines(), *of_jobs]), key=lambda line: line.at)
