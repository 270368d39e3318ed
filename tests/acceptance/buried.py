"""Dead letters in the data directory of a program, and what became of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from storage.dead_letters.repository import DeadLetterRepository
from tests.support.databases import open_database
from tests.support.letters import letter
from tests.support.program import COLOR, MODERATION, Program

NOW = datetime.now(UTC)
GROUPS = {"TimeoutError": "a" * 16, "ConnectionError": "b" * 16}


async def bury(program: Program, letters: list[Any]) -> None:
    """Put letters into the database of the data directory."""
    program.data_dir.mkdir(mode=0o700, exist_ok=True)
    async with open_database(f"sqlite:///{quote(str(program.data_dir))}/couturecast.db") as database:
        await DeadLetterRepository(database).record(letters)


async def bury_six(program: Program) -> None:
    """Ids 1 to 6: three that timed out on one queue; two on another; one of 40 days ago."""
    made = [
        letter(f"u{number}", job_id=f"k{number}", failed_at=NOW - timedelta(minutes=60 - number), **kind)
        for number, kind in enumerate([_kind("TimeoutError", COLOR)] * 3 + [_kind("ConnectionError")] * 2)
    ]
    old = letter("u5", job_id="k5", failed_at=NOW - timedelta(days=40), **_kind("ConnectionError"))
    await bury(program, [made[0], old, *made[1:]])


def _kind(error_type: str, queue: str = MODERATION) -> dict[str, Any]:
    return {
        "queue_name": queue,
        "function": "extract_colors" if queue == COLOR else "review_content",
        "error_type": error_type,
        "error_message": "no answer \x1b[2J",
        "fingerprint": GROUPS[error_type],
        "job_data": {"kwargs": {"city": "lisboa" if queue == COLOR else "porto", "text": "x"}},
    }


def states(program: Program) -> dict[int, str]:
    """Return the states of the letters that are not archived."""
    with closing(sqlite3.connect(program.data_dir / "couturecast.db")) as database:
        return dict(database.execute("SELECT id, state FROM job_failures"))


def acts(program: Program) -> list[tuple[str, int, str]]:
    """Verb, number and reason of each act."""
    with closing(sqlite3.connect(program.data_dir / "couturecast.db")) as database:
        rows = database.execute("SELECT verb, affected, reason FROM operator_actions ORDER BY id")
        return [(verb, int(affected), reason) for verb, affected, reason in rows]


def failed_jobs(*runs: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [("failed-jobs", *arguments) for arguments in runs]
