"""Changes that wait for their delivery: failed ones are retried, and too many invalidate everything."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from storage.asyncio_tools import cancel_and_wait
from storage.cache import change_queue
from storage.cache.change_listener import ChangeListener
from storage.database.engine import Database
from tests.integration.storage.cache.change_listener.conftest import (
    MakeListener,
    RecordingListener,
    write,
    write_one,
)
from tests.support.waiting import eventually


async def test_a_failed_invalidation_is_retried_and_delays_no_other(
    listener: RecordingListener, postgres_url: str
) -> None:
    listener.fail = lambda subject: subject == "user:bad"
    with structlog.testing.capture_logs() as logs:
        await write_one(postgres_url, "bad")
        await eventually(lambda: listener.failed)
        await write_one(postgres_url, "good")
        await listener.wait_for("user:good")
        listener.fail = lambda subject: False
        await listener.wait_for("user:bad")
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert (warning["tag"], warning["cause"]) == ("user:bad", "the cache is down")


async def test_too_many_pending_changes_invalidate_everything(
    listener: RecordingListener, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_queue, "_MAX_PENDING", 20)
    listener.fail = lambda subject: True
    await write(
        postgres_url, "INSERT INTO user_preferences SELECT n::text, '{}' FROM generate_series(1, 21) n"
    )
    await eventually(lambda: listener.failed)
    listener.fail = lambda subject: False
    await listener.wait_for("all")


async def test_a_change_during_its_delivery_is_delivered_again(
    database: Database, postgres_url: str, make_listener: MakeListener
) -> None:
    received: list[str] = []
    go_on = asyncio.Event()

    async def change(subject: str) -> None:
        received.append(subject)
        await go_on.wait()

    async def resync() -> None:
        received.append("resync")

    listener = ChangeListener(database, on_change=change, on_resync=resync)
    running = asyncio.create_task(listener.run())
    await eventually(lambda: received == ["resync"])
    await write_one(postgres_url, "ana")
    await eventually(lambda: received == ["resync", "user:ana"])
    await write(postgres_url, "NOTIFY couturecast_cache, 'nonsense'")
    for user_id in ("ana", "bo", "ana", "last"):  # they arrive in order, so all are here when the last is
        await write(
            postgres_url,
            f"INSERT INTO user_preferences VALUES ('{user_id}', '{{}}') "
            "ON CONFLICT (user_id) DO UPDATE SET updated_at = now()",
        )
    await eventually(lambda: "user:last" in listener._queue._pending, what="all arrive")
    go_on.set()
    await eventually(lambda: received[-1] == "user:last")
    assert received == ["resync", "user:ana", "user:ana", "user:bo", "user:last"]
    await cancel_and_wait([running])
