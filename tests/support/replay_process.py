"""Carries out a plan in a process of its own: ``python -m tests.support.replay_process '{…}'``.

For tests that kill it.

Options (one JSON object): redis, database, queue, plan.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.operations import build_operations
from workers.engine.policy import DEFAULT_POLICIES


async def main(options: dict[str, Any]) -> None:
    database = Database(options["database"])
    await database.start()
    operations = build_operations(
        options["redis"],
        policies=[DEFAULT_POLICIES[options["queue"]]],
        schemas={},
        database=database,
        letters=DeadLetterRepository(database),
    )
    plan = await operations.replays.run_plan(options["plan"])
    sys.stdout.write(f"{plan.state}\n")
    await operations.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
