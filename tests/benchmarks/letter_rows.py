"""A million dead letters, made up: groups of all sizes, over a month with an incident."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # has no stubs

from storage.database.engine import Database
from storage.dead_letters.filters import STATES

END = datetime.now(UTC).replace(microsecond=0)
"""The newest letter died just before."""
DAYS = 30
INCIDENT = (3.0, 3.25)
"""Days after the first letter between which the largest group died."""
COLUMNS = (
    *("uid", "queue_name", "job_id", "function", "job_data", "error_type", "error_message", "traceback"),
    *("fingerprint", "attempts", "attempt_errors", "worker", "enqueued_at", "failed_at", "state"),
    *("replay_count", "root_id", "deaths"),
)
LETTER_ID = re.compile(r"[0-9a-f]{10}")
Row = tuple[Any, ...]


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
GREAT = Kind(
    "weather-ingestion",
    "ingest_weather",
    "HTTPStatusError",
    "upstream connect error or disconnect before headers, reset reason: overflow, request {id}",
    0.3,
)
MIDDLE = Kind(
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
    share = (1 - GREAT.share - MIDDLE.share) / total
    return [GREAT, MIDDLE, *(Kind(*kind, share / rank) for rank, kind in enumerate(rest, 1))]


def rows(number: int) -> Iterator[Row]:
    """Letters in the order of their deaths; but for the times always the same."""
    chance = random.Random(1)
    found, start = kinds(), END - timedelta(days=DAYS)
    great = int(number * GREAT.share)
    seconds = sorted(
        [(chance.uniform(*INCIDENT) * 86_400, True) for _ in range(great)]
        + [(chance.random() * DAYS * 86_400, False) for _ in range(number - great)]
    )
    weights = list(accumulate(kind.share for kind in found[1:]))
    for at, (second, is_great) in enumerate(seconds, 1):
        kind = GREAT if is_great else chance.choices(found[1:], cum_weights=weights)[0]
        yield make_row(at, kind, start + timedelta(seconds=second), chance)


def make_row(at: int, kind: Kind, died: datetime, chance: random.Random) -> Row:
    message = kind.message.replace("{id}", f"{chance.getrandbits(40):010x}")
    kwargs = {
        "location_id": f"loc-{chance.randrange(5_000)}",
        "item": f"{chance.getrandbits(48):012x}",
        "block": chance.randrange(56),
        "units": chance.choice(("metric", "imperial")),
        "force": chance.random() < 0.1,
    }
    if kind is GREAT:
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
