"""A real worker process for tests that kill it: ``python -m tests.support.worker_process '{"redis": …}'``.

Options (one JSON object): redis, database, journal (a file), drain_seconds, release, ``die_recorded`` (see
`_Doomed`), ``look`` (seconds between checks for scheduled jobs), ``timings`` (fields of Timings), and fields
of QueuePolicy.  Its handler writes a line to the journal when an attempt starts and when it ends, and does
what the job's arguments say: ``seconds`` to sleep, ``fail`` to raise, ``block`` the event loop for that many
seconds, ``exit`` to die; ``ballast`` does nothing.  Times in the journal are of the monotonic clock, which
processes share.  ``queues`` has the policies of several queues instead, each with a journal of its own, whose
name ends with that of the queue.  With ``handler`` a function of `tests.support.journal_handlers` runs the
jobs, in processes of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from app.process.exit import abort
from storage.database.engine import Database
from storage.dead_letters.records import NewDeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.events import EventRepository
from workers.engine.policy import NORMAL, QueuePolicy, RateLimit, Timings
from workers.engine.runner import SaqFunction
from workers.handlers.processes.launch import HandlerSource
from workers.handlers.processes.pool import HandlerPool
from workers.process.event_log import EventLog
from workers.process.worker_process import WorkerProcess


class _Doomed(DeadLetterRepository):
    """The process is killed between the commit of its first letters and their removal from Redis."""

    async def record(self, letters: Sequence[NewDeadLetter]) -> int:
        new = await super().record(letters)
        os.kill(os.getpid(), signal.SIGKILL)
        return new


class _Journal:
    """Lines are short and appended in one write each, so processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, event: str, ctx: dict[str, Any]) -> None:
        line = {"event": event, "key": ctx["job"].key, "attempt": ctx["job"].attempts}
        os.write(
            self._file, (json.dumps({**line, "at": time.monotonic(), "pid": os.getpid()}) + "\n").encode()
        )


def _make_handler(journal: _Journal) -> SaqFunction:
    async def handler(
        ctx: dict[str, Any],
        seconds: float = 0.0,
        fail: bool = False,
        block: float = 0.0,
        exit: bool = False,
        ballast: str = "",
    ) -> str:
        journal.note("start", ctx)
        if exit:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            if block:
                time.sleep(block)  # noqa: ASYNC251 - what a careless handler does
            await asyncio.sleep(seconds)
            if fail:
                raise RuntimeError("told to fail")
        except asyncio.CancelledError:
            journal.note("cancelled", ctx)
            raise
        except RuntimeError:
            journal.note("failed", ctx)
            raise
        journal.note("end", ctx)
        return "done"

    return handler


def _make_policy(options: dict[str, Any]) -> QueuePolicy:
    fields: dict[str, Any] = {
        "name": "color-extraction",
        "function": "extract_colors",
        "concurrency": 5,
        "timeout": 60,
        **options,
    }
    if fields.get("rate_limit"):
        fields["rate_limit"] = RateLimit(*fields["rate_limit"])
    if "retry_delays" in fields:
        fields["retry_delays"] = tuple(fields["retry_delays"])
    return QueuePolicy(**fields)


async def _start_pool(name: str, journal: str) -> HandlerPool:
    async def refuse(*_: object) -> None: ...

    os.environ["JOURNAL"] = journal
    source = HandlerSource("color-extraction", f"tests.support.journal_handlers:{name}", sys.executable)
    pool = HandlerPool(source, refuse)
    await pool.start()
    return pool


def _make_process(
    options: dict[str, Any], handlers: Mapping[str, SaqFunction], database: Database, events: EventLog
) -> WorkerProcess:
    letters = (_Doomed if options.pop("die_recorded", False) else DeadLetterRepository)(database)
    settings: dict[str, Any] = {
        "letters": letters,
        "drain_seconds": options.pop("drain_seconds", 30.0),
        "pace": replace(NORMAL, scheduled=options.pop("look", NORMAL.scheduled)),
        "timings": Timings(**options.pop("timings", {})),
        "release": options.pop("release", "0"),
    }
    redis = options.pop("redis")
    queues = options.pop("queues", None)
    policies = [_make_policy({**options, **one}) for one in queues or [{}]]  # of what is left
    functions = {policy.name: handlers[policy.name if queues else ""] for policy in policies}
    return WorkerProcess(
        redis, policies=policies, functions=functions, events=events, give_up=abort, **settings
    )


async def main(options: dict[str, Any]) -> int:
    # Not on standard output: nobody reads it after ``ready``, and a pipe that is full stops its writer.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    database = Database(options.pop("database"))
    await database.start()
    events = EventLog(EventRepository(database))
    journal, name = options.pop("journal"), options.pop("handler", None)
    pool = await _start_pool(name, journal) if name is not None else None
    names = [one["name"] for one in options.get("queues", [])]
    handlers = {one: _make_handler(_Journal(Path(f"{journal}-{one}"))) for one in names}
    handlers[""] = _make_handler(_Journal(Path(journal))) if pool is None else pool.as_function()
    process = _make_process(options, handlers, database, events)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.begin_drain)
    await process.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    requeued = await process.wait_drained()
    await process.close()
    if pool is not None:
        await pool.close()
    await events.close()
    await database.close()
    return 3 if requeued else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
