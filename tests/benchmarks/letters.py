"""``make bench-letters``: what the screens ask about a million dead letters, on both databases."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from storage.database.engine import Database
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.ordering import ORDER_COLUMNS, LetterOrder
from storage.dead_letters.plans import NewPlan, PlanRepository
from storage.dead_letters.queries import encode_cursor
from storage.dead_letters.records import DeadLetter, NewDeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from tests.benchmarks.letter_rows import COLUMNS, DAYS, END, GREAT, LETTER_ID, MIDDLE, fill, make_row
from tests.support.servers import PostgresServer

RUNS, SECONDS = 11, 3.0
"""Of one measurement: so many runs, the first left out, or as many as fit into so many seconds."""
Tell = Callable[[str], None]


@dataclass
class Table:
    """What was measured: for each title the milliseconds of each run, or one figure with its unit."""

    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    others: dict[str, dict[str, str]] = field(default_factory=dict)

    def markdown(self) -> str:
        """A table of times, median and slowest, and one of everything else."""
        names = sorted({name for part in (self.times, self.others) for row in part.values() for name in row})
        head = [_line(["", *names]), _line(["---"] * (len(names) + 1))]
        cells = {
            title: {name: f"{median(figures):,.1f} / {max(figures):,.1f}" for name, figures in row.items()}
            for title, row in self.times.items()
        }
        parts = [
            "\n".join([*head, *(_line([title, *map(row.get, names)]) for title, row in part.items())])
            for part in (cells, self.others)
        ]
        return "Milliseconds, median / slowest:\n\n" + "\n\n".join(parts)


def _line(cells: Sequence[str | None]) -> str:
    return "| " + " | ".join(cell or "" for cell in cells) + " |"


class Bench:
    """The measurements on one database; ``name`` is its column in the table."""

    def __init__(self, database: Database, number: int, name: str, table: Table, tell: Tell) -> None:
        self.letters, self.plans = DeadLetterRepository(database), PlanRepository(database)
        self._number, self._name, self._table, self._tell = number, name, table, tell

    async def looks(self) -> None:
        """Everything that only reads."""
        middle = await self.letters.get(self._number // 2)
        assert middle is not None
        asked = filters(middle)
        for title, letter_filter in asked.items():
            await self._time(f"page: {title}", partial(self.letters.page, letter_filter))
        died, recorded = (
            encode_cursor(order, middle.failed_at, middle.id) for order in ("failed_at", "recorded")
        )
        for title, letter_filter in asked.items():
            if title in _DEEP:
                cursor = recorded if letter_filter.uses_text_search else died
                await self._time(
                    f"page deep down: {title}",
                    partial(self.letters.page, letter_filter, cursor=cursor),
                )
        for column in ORDER_COLUMNS:
            for order in (LetterOrder(column), LetterOrder(column, descending=False)):
                first = () if column == "failed_at" else (getattr(middle, column),)
                cursor = encode_cursor(order.name, middle.failed_at, middle.id, *first)
                await self._time(f"page by {order.name}", partial(self.letters.page, order=order))
                deep = partial(self.letters.page, order=order, cursor=cursor)
                await self._time(f"page deep down by {order.name}", deep)
        for title, letter_filter in asked.items():
            if title in _COUNTED:
                await self._time(f"count: {title}", partial(self.letters.count, letter_filter))
        await self._time("count: up to 1,000", lambda: self.letters.count(limit=1_000))
        for title, letter_filter in asked.items():
            if title in _GROUPED:
                await self._time(f"groups: {title}", partial(self.letters.groups, letter_filter))
        await self._time("one letter", lambda: self.letters.get(self._number // 3))
        await self._time("lineage", lambda: self.letters.lineage(middle))
        await self._time("newest id", self.letters.newest_id)

    async def acts(self) -> None:
        """What changes the tables, each once."""
        batches = [[_new(n) for n in range(at, at + 100)] for at in range(0, 5_000, 100)]
        seconds = await _seconds(lambda: self._each(self.letters.record, batches))
        self._other("record(), 100 at a time", f"{5_000 / seconds:,.0f} letters/s")
        group, great = (
            LetterFilter(fingerprint=MIDDLE.fingerprint),
            LetterFilter(fingerprint=GREAT.fingerprint),
        )
        for letter_filter in (group, great):
            total = await self.letters.count(letter_filter)
            seconds = await _seconds(partial(self._freeze, letter_filter))
            self._other(f"freeze a plan of {round(total, -3):,}", f"{seconds:,.2f} s")
        total = await self.letters.count(group)
        seconds = await _seconds(lambda: self.letters.discard(group))
        self._other(f"discard a group of {round(total, -3):,}", f"{seconds:,.2f} s")
        before = [END - timedelta(days=DAYS - 1, minutes=n) for n in range(10)]
        seconds = await _seconds(lambda: self._each(self.letters.archive, before))
        self._other("archive(), 500 at a time", f"{5_000 / seconds:,.0f} letters/s")

    async def _freeze(self, letter_filter: LetterFilter) -> None:
        await self.plans.create(NewPlan("bench", "", {}, 0, None, 1.0), letter_filter, poison=True)

    async def _each(self, act: Callable[[Any], Awaitable[Any]], arguments: Sequence[Any]) -> None:
        for argument in arguments:
            await act(argument)

    async def _time(self, title: str, look: Callable[[], Awaitable[Any]]) -> None:
        """The first run is left out: it reads from the disk."""
        taken: list[float] = []
        until = time.monotonic() + SECONDS
        while len(taken) < 2 or (len(taken) < RUNS + 1 and time.monotonic() < until):
            taken.append(await _seconds(look) * 1_000)
        self._table.times.setdefault(title, {})[self._name] = taken[1:]
        middle, most = median(taken[1:]), max(taken[1:])
        self._tell(f"    {title}: {middle:,.1f} / {most:,.1f} ms (the first run: {taken[0]:,.1f})")

    def _other(self, title: str, value: str) -> None:
        self._table.others.setdefault(title, {})[self._name] = value
        self._tell(f"    {title}: {value}")


def filters(letter: DeadLetter) -> dict[str, LetterFilter]:
    """What an operator may ask for, once by the id in that letter's message."""
    every = {"state": None}
    clustered, frequent = "disconnect before headers", "timed out"
    day, hour = END - timedelta(days=1), END - timedelta(hours=1)
    return {
        "all dead": ALL_DEAD,
        "replayed": LetterFilter(state="replayed"),
        "discarded": LetterFilter(state="discarded"),
        "all states": LetterFilter(**every),
        "queue": LetterFilter(queue="alert-fanout"),
        "queue, all states": LetterFilter(queue="alert-fanout", **every),
        "queue that has none": LetterFilter(queue="nothing"),
        "function": LetterFilter(function="extract_colors"),
        "function, all states": LetterFilter(function="extract_colors", **every),
        "queue and function": LetterFilter(queue="alert-fanout", function="fan_out_alert"),
        "queue and another's function": LetterFilter(queue="alert-fanout", function="extract_colors"),
        "since 24 h": LetterFilter(since=day),
        "until 20 days ago": LetterFilter(until=END - timedelta(days=20)),
        "since 24 h until 23 h": LetterFilter(since=day, until=day + timedelta(hours=1)),
        "queue since 1 h": LetterFilter(queue="alert-fanout", since=hour),
        "fingerprint": LetterFilter(fingerprint=MIDDLE.fingerprint),
        "fingerprint, largest": LetterFilter(fingerprint=GREAT.fingerprint),
        "fingerprint, all states": LetterFilter(fingerprint=MIDDLE.fingerprint, **every),
        "fingerprint and queue": LetterFilter(fingerprint=MIDDLE.fingerprint, queue="color-extraction"),
        "fingerprint and another queue": LetterFilter(
            fingerprint=GREAT.fingerprint, queue="color-extraction"
        ),
        "fingerprint, largest, since 24 h": LetterFilter(fingerprint=GREAT.fingerprint, since=day),
        "poison": LetterFilter(poison=True),
        "poison, all states": LetterFilter(poison=True, **every),
        "poison of a queue": LetterFilter(poison=True, queue="alert-fanout"),
        "poison of a fingerprint": LetterFilter(poison=True, fingerprint=MIDDLE.fingerprint),
        "no poison": LetterFilter(poison=False),
        "error, frequent": LetterFilter(error=frequent),
        "error, three characters": LetterFilter(error="out"),
        "error, rare": LetterFilter(error="request 7f3"),
        "error, rare, whole id": LetterFilter(error=LETTER_ID.findall(letter.error_message)[0]),
        "error, absent": LetterFilter(error="zzqxj wvvkq"),
        "error, absent, of frequent parts": LetterFilter(error="service timed out after 40 s"),
        "error, signs only": LetterFilter(error="..."),
        "error, far past": LetterFilter(error=clustered),
        "error, far past, all states": LetterFilter(error=clustered, **every),
        "error, frequent, discarded": LetterFilter(error=frequent, state="discarded"),
        "error, frequent, a queue": LetterFilter(error=frequent, queue="moderation-review"),
        "error, frequent, since 24 h": LetterFilter(error=frequent, since=day),
        "error, frequent, 20 days ago": LetterFilter(error=frequent, until=END - timedelta(days=20)),
        "error, far past, since 24 h": LetterFilter(error=clustered, since=day),
        "error, far past, another queue": LetterFilter(error=clustered, queue="alert-fanout"),
        "arg, frequent": LetterFilter(args={"units": "metric"}),
        "arg, rare": LetterFilter(args={"location_id": "loc-4711"}),
        "arg, absent": LetterFilter(args={"location_id": "loc-9999"}),
        "arg, far past": LetterFilter(args={"region": "eu-west"}),
        "arg, number": LetterFilter(args={"block": "55"}),
        "arg, truth": LetterFilter(args={"force": "true"}),
        "two args": LetterFilter(args={"units": "metric", "location_id": "loc-4711"}),
        "arg and error": LetterFilter(args={"units": "metric"}, error=frequent),
        "everything": LetterFilter(
            queue="alert-fanout",
            function="fan_out_alert",
            since=END - timedelta(days=7),
            until=day,
            error=frequent,
            args={"units": "metric"},
            poison=False,
        ),
        "all dead, archive": LetterFilter(archived=True),
    }


_DEEP = (
    "all dead",
    "all states",
    "queue",
    "queue, all states",
    "function",
    "error, frequent",
    "arg, frequent",
)
_COUNTED = (
    "all dead",
    "all states",
    "queue",
    "function",
    "since 24 h",
    "fingerprint",
    "fingerprint, largest",
    "poison",
    "no poison",
    "error, frequent",
    "error, rare",
    "error, far past",
    "arg, frequent",
    "arg, rare",
)
_GROUPED = (
    "all dead",
    "all states",
    "queue",
    "function",
    "since 24 h",
    "fingerprint, largest",
    "poison",
    "no poison",
    "error, frequent",
    "error, rare",
    "arg, rare",
)


def _new(number: int) -> NewDeadLetter:
    row = dict(zip(COLUMNS, make_row(number, GREAT, END, random.Random(number)), strict=True))
    for name in ("state", "replay_count", "root_id", "deaths"):
        del row[name]
    row |= {"uid": f"new-{number}", "replay_of": None}
    return NewDeadLetter(**row | {name: json.loads(row[name]) for name in ("job_data", "attempt_errors")})


async def _seconds(act: Callable[[], Awaitable[Any]]) -> float:
    start = time.perf_counter()
    await act()
    return time.perf_counter() - start


async def measure(url: str, name: str, number: int, table: Table, tell: Tell) -> None:
    """Fill the new database at ``url``, and take all measurements."""
    database = Database(url)
    try:
        seconds = await _seconds(lambda: fill(database, number))
        tell(f"{name}: filled in {seconds:,.0f} s")
        bench = Bench(database, number, name, table, tell)
        await bench.looks()
        await bench.acts()
    finally:
        await database.close()


def main() -> None:
    """Measure what was asked for; print the tables."""
    parser = argparse.ArgumentParser(prog="make bench-letters", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="letters in the table")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    options = parser.parse_args()
    table = Table()
    if options.database != "postgres":
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'letters.db'}"
            asyncio.run(measure(url, "SQLite", options.rows, table, _tell))
    if options.database != "sqlite":
        server = PostgresServer()
        server.start()
        try:
            asyncio.run(measure(server.create("letters"), "Postgres", options.rows, table, _tell))
        finally:
            server.remove()
    sys.stdout.write(
        f"{datetime.now(UTC):%Y-%m-%d}, {options.rows:,} letters, SQLite {sqlite3.sqlite_version}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores.\n\n{table.markdown()}\n"
    )


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
