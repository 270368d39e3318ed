"""``make bench-letters``: what the screens ask about a million dead letters, on both databases."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # has no stubs

from storage.database.engine import Database
from storage.dead_letters.filters import ALL_DEAD, STATES, LetterFilter
from storage.dead_letters.ordering import ORDER_COLUMNS, LetterOrder
from storage.dead_letters.plans import NewPlan, PlanRepository
from storage.dead_letters.queries import encode_cursor
from storage.dead_letters.records import DeadLetter, NewDeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.servers import PostgresServer

END = datetime.now(UTC).replace(microsecond=0)
"""The newest letter died just before."""
DAYS = 30
INCIDENT = (3.0, 3.25)
"""Days after the first letter between which the largest group died."""
RUNS, SECONDS = 11, 3.0
"""Of one measurement: so many runs, the first left out, or as many as fit into so many seconds."""
COLUMNS = (
    *("uid", "queue_name", "job_id", "function", "job_data", "error_type", "error_message", "traceback"),
    *("fingerprint", "attempts", "attempt_errors", "worker", "enqueued_at", "failed_at", "state"),
    *("replay_count", "root_id", "deaths"),
)

_ID = re.compile(r"[0-9a-f]{10}")

Row = tuple[Any, ...]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Kind:
    """Letters of one fingerprint.  ``{id}`` in a message is another one in each; ``share`` of all."""

    queue: str
    function: str
    error: str
    message: str
    share: float

    @property
    def fingerprint(self) -> str:
        """As the workers would write it: 16 hexadecimal digits."""
        return f"{random.Random(self.error + self.message + self.queue).getrandbits(64):016x}"


_FUNCTIONS = {
    "weather-ingestion": "ingest_weather",
    "alert-fanout": "fan_out_alert",
    "color-extraction": "extract_colors",
    "moderation-review": "review_content",
}
_ERRORS = (
    ("TimeoutError", "request {id} timed out after 40 s"),
    ("HTTPStatusError", "503 from the weather service for location {id}"),
    ("ConnectError", "connection to 10.0.3.17:443 refused, attempt {id}"),
    ("ValidationError", "text: longer than 5000 characters in item {id}"),
    ("KeyError", "'palette-{id}'"),
    ("ReadTimeout", "the service timed out while reading {id}"),
    ("UnidentifiedImageError", "cannot identify image file garment-{id}.webp"),
    ("RateLimitError", "429: too many requests for key {id}"),
    ("JSONDecodeError", "Expecting value: line 1 column {id}"),
    ("OSError", "[Errno 28] No space left on device: /tmp/{id}"),
)
_GREAT = Kind(
    "weather-ingestion",
    "ingest_weather",
    "HTTPStatusError",
    "upstream connect error or disconnect before headers, reset reason: overflow, request {id}",
    0.3,
)
_MIDDLE = Kind(
    "color-extraction", "extract_colors", "MemoryError", "image {id} needs more than 800 MB", 0.0128
)
"""About 10,000 of them are dead."""


def kinds() -> list[Kind]:
    """Forty groups, the first with the largest share, the others with ever smaller ones."""
    rest = [
        (queue, function, error, message)
        for error, message in _ERRORS
        for queue, function in _FUNCTIONS.items()
    ][:38]
    total = sum(1 / rank for rank in range(1, len(rest) + 1))
    share = (1 - _GREAT.share - _MIDDLE.share) / total
    return [_GREAT, _MIDDLE, *(Kind(*kind, share / rank) for rank, kind in enumerate(rest, 1))]


def rows(number: int) -> Iterator[Row]:
    """Letters in the order of their deaths; but for the times always the same."""
    chance = random.Random(1)
    found, start = kinds(), END - timedelta(days=DAYS)
    great = int(number * _GREAT.share)
    seconds = sorted(
        [(chance.uniform(*INCIDENT) * 86_400, True) for _ in range(great)]
        + [(chance.random() * DAYS * 86_400, False) for _ in range(number - great)]
    )
    weights = list(accumulate(kind.share for kind in found[1:]))
    for at, (second, is_great) in enumerate(seconds, 1):
        kind = _GREAT if is_great else chance.choices(found[1:], cum_weights=weights)[0]
        yield _row(at, kind, start + timedelta(seconds=second), chance)


def _row(at: int, kind: Kind, died: datetime, chance: random.Random) -> Row:
    message = kind.message.replace("{id}", f"{chance.getrandbits(40):010x}")
    kwargs = {
        "location_id": f"loc-{chance.randrange(5_000)}",
        "item": f"{chance.getrandbits(48):012x}",
        "block": chance.randrange(56),
        "units": chance.choice(("metric", "imperial")),
        "force": chance.random() < 0.1,
    }
    if kind is _GREAT:
        kwargs["region"] = "eu-west"
    job = {"function": kind.function, "kwargs": kwargs, "queue": kind.queue, "key": f"job-{at}", "retries": 4}
    traceback = (
        'Traceback (most recent call last):\\n  File \\"/srv/app/workers/run.py\\", line 88, in run\\n'
        f'  File \\"/srv/app/workers/handlers/{kind.function}.py\\", line {len(message)}\\n{kind.error}: '
    )
    shown = json.dumps(message)[1:-1]
    attempts = ", ".join(
        f'{{"attempt": {attempt}, "at": {died.timestamp() - 31 + attempt:.3f}, "worker": "w{at % 7}", '
        f'"error_type": "{kind.error}", "message": "{shown}", "traceback": "{traceback}{shown}", '
        '"run_seconds": 0.31}'
        for attempt in range(1, 5)
    )
    state = chance.choices(STATES, cum_weights=(80, 95, 100))[0]
    again = at > 1_000 and chance.random() < 0.02  # a replayed letter's job died of the same error again
    return (
        f"{at:032x}",
        kind.queue,
        f"job-{at}",
        kind.function,
        json.dumps(job),
        kind.error,
        message,
        traceback.replace("\\n", "\n").replace('\\"', '"') + message,
        kind.fingerprint,
        4,
        f"[{attempts}]",
        f"w{at % 7}",
        died - timedelta(seconds=chance.randrange(40, 400)),
        died,
        state,
        int(state == "replayed"),
        at - chance.randrange(1, 1_000) if again else None,
        chance.choice((2, 3, 4)) if again else 1,
    )


async def fill(database: Database, number: int) -> None:
    """Put ``number`` letters into the new tables of ``database``."""
    await database.start()
    await database.close()  # it opens itself again; meanwhile the file is ours
    if database.dialect == "sqlite":
        await asyncio.to_thread(_fill_sqlite, str(database.engine.url.database), number)
    else:
        await _fill_postgres(database.engine.url.set(drivername="postgresql").render_as_string(False), number)


def _fill_sqlite(path: str, number: int) -> None:
    """Without statistics, since the program never makes any."""
    indexes = "FROM sqlite_master WHERE type = 'index' AND tbl_name = 'job_failures' AND sql IS NOT NULL"
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=DELETE", "journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000"):
        connection.execute(f"PRAGMA {setting}")
    hash_size = "INSERT INTO job_failures_text(job_failures_text, rank) VALUES ('hashsize', ?)"
    connection.execute(hash_size, [2**28])
    again = connection.execute(f"SELECT name, sql {indexes}").fetchall()
    connection.execute("BEGIN")
    for name, _ in again:
        connection.execute(f"DROP INDEX {name}")
    into = f"INSERT INTO job_failures ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    connection.executemany(into, (tuple(map(_of_sqlite, row)) for row in rows(number)))
    for _, sql in again:
        connection.execute(sql)
    connection.execute(hash_size, [2**20])
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _of_sqlite(value: Any) -> Any:
    return f"{value:%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else value


async def _fill_postgres(url: str, number: int) -> None:
    """With statistics and a visibility map, as autovacuum makes them."""
    indexes = "FROM pg_indexes WHERE tablename LIKE 'job_failures%' AND indexname LIKE 'ix_%'"
    connection = await asyncpg.connect(url)
    try:
        again = await connection.fetch(f"SELECT indexname, indexdef {indexes}")
        for name, _ in again:
            await connection.execute(f"DROP INDEX {name}")
        letters = rows(number)
        while batch := list(islice(letters, 20_000)):
            await connection.copy_records_to_table("job_failures", records=batch, columns=COLUMNS)
        for _, sql in again:
            await connection.execute(sql)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


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
        for title, wanted in asked.items():
            await self._time(f"page: {title}", partial(self.letters.page, wanted))
        died, recorded = (
            encode_cursor(order, middle.failed_at, middle.id) for order in ("failed_at", "recorded")
        )
        for title, wanted in asked.items():
            if title in _DEEP:
                cursor = recorded if wanted.uses_text_search else died
                await self._time(
                    f"page deep down: {title}",
                    partial(self.letters.page, wanted, cursor=cursor),
                )
        for column in ORDER_COLUMNS:
            for order in (LetterOrder(column), LetterOrder(column, descending=False)):
                first = () if column == "failed_at" else (getattr(middle, column),)
                cursor = encode_cursor(order.name, middle.failed_at, middle.id, *first)
                await self._time(f"page by {order.name}", partial(self.letters.page, order=order))
                deep = partial(self.letters.page, order=order, cursor=cursor)
                await self._time(f"page deep down by {order.name}", deep)
        for title, wanted in asked.items():
            if title in _COUNTED:
                await self._time(f"count: {title}", partial(self.letters.count, wanted))
        await self._time("count: up to 1,000", lambda: self.letters.count(most=1_000))
        for title, wanted in asked.items():
            if title in _GROUPED:
                await self._time(f"groups: {title}", partial(self.letters.groups, wanted))
        await self._time("one letter", lambda: self.letters.get(self._number // 3))
        await self._time("lineage", lambda: self.letters.lineage(middle))
        await self._time("newest id", self.letters.newest_id)

    async def acts(self) -> None:
        """What changes the tables, each once."""
        batches = [[_new(n) for n in range(at, at + 100)] for at in range(0, 5_000, 100)]
        seconds = await _seconds(lambda: self._each(self.letters.record, batches))
        self._other("record(), 100 at a time", f"{5_000 / seconds:,.0f} letters/s")
        group, great = (
            LetterFilter(fingerprint=_MIDDLE.fingerprint),
            LetterFilter(fingerprint=_GREAT.fingerprint),
        )
        for wanted in (group, great):
            total = await self.letters.count(wanted)
            seconds = await _seconds(partial(self._freeze, wanted))
            self._other(f"freeze a plan of {round(total, -3):,}", f"{seconds:,.2f} s")
        total = await self.letters.count(group)
        seconds = await _seconds(lambda: self.letters.discard(group))
        self._other(f"discard a group of {round(total, -3):,}", f"{seconds:,.2f} s")
        before = [END - timedelta(days=DAYS - 1, minutes=n) for n in range(10)]
        seconds = await _seconds(lambda: self._each(self.letters.archive, before))
        self._other("archive(), 500 at a time", f"{5_000 / seconds:,.0f} letters/s")

    async def _freeze(self, wanted: LetterFilter) -> None:
        await self.plans.create(NewPlan("bench", "", {}, 0, None, 1.0), wanted, poison=True)

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
        "fingerprint": LetterFilter(fingerprint=_MIDDLE.fingerprint),
        "fingerprint, largest": LetterFilter(fingerprint=_GREAT.fingerprint),
        "fingerprint, all states": LetterFilter(fingerprint=_MIDDLE.fingerprint, **every),
        "fingerprint and queue": LetterFilter(fingerprint=_MIDDLE.fingerprint, queue="color-extraction"),
        "fingerprint and another queue": LetterFilter(
            fingerprint=_GREAT.fingerprint, queue="color-extraction"
        ),
        "fingerprint, largest, since 24 h": LetterFilter(fingerprint=_GREAT.fingerprint, since=day),
        "poison": LetterFilter(poison=True),
        "poison, all states": LetterFilter(poison=True, **every),
        "poison of a queue": LetterFilter(poison=True, queue="alert-fanout"),
        "poison of a fingerprint": LetterFilter(poison=True, fingerprint=_MIDDLE.fingerprint),
        "no poison": LetterFilter(poison=False),
        "error, frequent": LetterFilter(error=frequent),
        "error, three characters": LetterFilter(error="out"),
        "error, rare": LetterFilter(error="request 7f3"),
        "error, rare, whole id": LetterFilter(error=_ID.findall(letter.error_message)[0]),
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
    row = dict(zip(COLUMNS, _row(number, _GREAT, END, random.Random(number)), strict=True))
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
