"""Each of the two databases in turn, and rows of letters whose values are odd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.database.engine import Database
from storage.dead_letters.filters import STATES
from tests.support.databases import open_database

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ODD = [
    "100% of a_b",
    "100x of a.b",
    'a "quoted" word',
    "it's",
    "C:\\new\\table",
    "one\ntwo",
    "ÉTÉ Ω",
    "été ω",
    "名前が長い",
    "...",
    "-- ; DROP TABLE",
    "error: NOT AND *",
    "a=b",
    "🙂🙃🙂",
]
VALUES: list[Any] = [
    *ODD,
    "Lisboa",
    "lisboa",
    "lisboa ",
    1,
    "1",
    1.5,
    -7,
    0,
    2**40,
    True,
    "true",
    False,
    None,
    "x" * 200,
]
NAMES = ["city", "City", "a=b", "n", "odd name\n", "été"]


def make_rows(number: int) -> list[dict[str, Any]]:
    """Letters that differ in everything; several died in the same second, not in the order of their ids."""
    found = []
    for n in range(number):
        kwargs = {
            NAMES[n % len(NAMES)]: VALUES[n % len(VALUES)],
            NAMES[(n + 1) % len(NAMES)]: VALUES[(n * 3 + 1) % len(VALUES)],
            "nested": {"city": "Lisboa"},
            "list": ["Lisboa"],
        }
        row = {
            "uid": f"u{n}",
            "queue_name": f"queue-{n % 3}",
            "job_id": f"job-{n}",
            "function": f"function-{n % 4}",
            "job_data": {"kwargs": kwargs},
            "error_type": ("ValueError", "TimeoutError")[n % 2],
            "error_message": f"{ODD[n % len(ODD)]} in item {n}",
            "fingerprint": f"{n % 5:016x}",
            "attempts": 4,
            "attempt_errors": [],
            "failed_at": NOON + timedelta(seconds=(n * 7) % 40),
            "state": STATES[(n * 5 // 3) % 3],
            "deaths": 1 + n % 4,
        }
        found.append(row)
    return found


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database
