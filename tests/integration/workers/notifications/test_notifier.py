"""Alerts become messages of a real webhook: each once in the cluster, whatever dies, hangs or refuses."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.database.events import ignore_event
from storage.errors import DatabaseUnavailableError
from storage.redis.client import make_client
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert
from tests.support.fake_moments import HEALTHY
from tests.support.waiting import eventually
from tests.support.webhook import Behaviour, Webhook
from workers.monitoring.snapshot import Alert, Snapshot
from workers.notifications import THREAD_NAME
from workers.notifications.messages import trial
from workers.notifications.notifier import MessageBudget, Notifier
from workers.notifications.services import load_services
from workers.process.alert_keeper import AlertKeeper
from workers.process.idle_checks import IdleChecks

BACKLOG = FiringAlert("backlog", "color-extraction", "", "132 queued, limit 100", 132.0)
NO_WORKER = FiringAlert("no_worker", "weather-ingestion", "", "no worker", None)
SECRETS = ("s3cr3t-pass", "t0ken-path", "s3cr3t", "t0ken", "ann:")

OpenWebhook = Callable[[Behaviour], Awaitable[Webhook]]


@pytest.fixture
async def open_webhook() -> AsyncIterator[OpenWebhook]:
    opened: list[Webhook] = []

    async def open_one(behaviour: Behaviour) -> Webhook:
        webhook = Webhook(behaviour)
        await webhook.start()
        opened.append(webhook)
        return webhook

    yield open_one
    for webhook in opened:
        await webhook.close()


@pytest.fixture
async def webhook(open_webhook: OpenWebhook) -> Webhook:
    return await open_webhook("ok")


@pytest.fixture
async def history(migrated_database_url: str) -> AsyncIterator[AlertHistoryRepository]:
    database = Database(migrated_database_url)
    await database.start()
    yield AlertHistoryRepository(database)
    await database.close()


class Bench:
    """Notifiers of several processes on one database."""

    def __init__(self, history: AlertHistoryRepository) -> None:
        self.history = history
        self.stack = AsyncExitStack()

    def notifier(self, *webhooks: Webhook, timeout: float = 10.0, retries: Iterable[float] = ()) -> Notifier:
        urls = " ".join(webhook.url for webhook in webhooks)
        services = load_services(urls, timeout=timeout, retry_seconds=tuple(retries))
        notifier = Notifier(self.history, services, "test", collect_seconds=0.2)
        self.stack.push_async_callback(notifier.close)
        return notifier

    def run(self, notifier: Notifier) -> None:
        task = asyncio.create_task(notifier.run())
        self.stack.callback(task.cancel)

    async def record(self, *alerts: FiringAlert) -> None:
        await self.history.record(alerts, datetime.now(UTC))

    async def move_back(self, seconds: float) -> None:
        """Let all messages, claimed or sent, be so much older."""
        now = datetime.now(UTC)
        records = await self.history.notifiable(now - timedelta(days=1), now)
        changes = []
        for record in records:
            older = {
                name: value - seconds if name in ("claimed_at", "sent_at") else value
                for name, value in record.notified.items()
            }
            changes.append((record, older))
        assert await self.history.replace_notified(changes) == {record.id for record in records}

    async def is_confirmed(self) -> bool:
        """Whether nothing that was claimed is still being sent."""
        now = datetime.now(UTC)
        records = await self.history.notifiable(now - timedelta(days=1), now)
        return all(record.notified and record.notified["claim"] is None for record in records)


@pytest.fixture
async def bench(history: AlertHistoryRepository) -> AsyncIterator[Bench]:
    bench = Bench(history)
    async with bench.stack:
        yield bench


def keeper(bench: Bench, redis: Redis, notifier: Notifier, alerts: list[Alert]) -> AlertKeeper:
    """The alert keeper of one process; ``alerts`` may change."""

    async def snapshot() -> Snapshot:
        return replace(HEALTHY, alerts=tuple(alerts))

    return AlertKeeper(
        redis,
        bench.history,
        snapshot,
        is_active=lambda: True,
        idle=IdleChecks([redis], count_seconds=30),
        emit=ignore_event,
        notify=notifier.notify,
        notify_unrecorded=notifier.notify_unrecorded,
    )


@pytest.mark.slow
async def test_it_notifies_when_an_alert_fires_doubles_and_is_resolved(
    bench: Bench, webhook: Webhook
) -> None:
    notifier = bench.notifier(webhook)
    await bench.record(BACKLOG)
    assert await notifier.send_due()
    await eventually(bench.is_confirmed)
    await bench.record(replace(BACKLOG, message="264 queued, limit 100", value=264.0))
    assert not await notifier.send_due()
    await bench.move_back(300)
    assert await notifier.send_due()
    await eventually(bench.is_confirmed)
    await bench.record()
    assert await notifier.send_due()
    await eventually(bench.is_confirmed)
    assert not await notifier.send_due()
    assert webhook.titles == [
        "CoutureCast test: warning",
        "CoutureCast test: warning",
        "CoutureCast test: resolved",
    ]
    fired, doubled, resolved = (line for line in webhook.lines if "queued" in line)
    assert fired.startswith("color-extraction backlog: 132 queued, limit 100")
    assert doubled.startswith("color-extraction backlog, doubled: 264 queued, limit 100")
    assert resolved.startswith("color-extraction backlog: resolved after")
    assert notifier.counts == {"sent": 3, "failed": 0, "dropped": 0}


async def test_what_changes_within_the_window_is_one_message(
    bench: Bench, redis: Redis, webhook: Webhook
) -> None:
    notifier, alerts = bench.notifier(webhook), [Alert("color-extraction", "backlog", "132 queued")]
    bench.run(notifier)
    keeping = keeper(bench, redis, notifier, alerts)
    await keeping.check()
    alerts.append(Alert("weather-ingestion", "no_worker", "no worker", "critical"))
    alerts.append(Alert("weather-ingestion", "new_error", "a new error", "information"))
    await keeping.check()
    await eventually(lambda: bool(webhook.received))
    await eventually(bench.is_confirmed)
    assert webhook.titles == ["CoutureCast test: critical, 2 alerts"]
    alerts.clear()
    await keeping.check()
    await eventually(lambda: len(webhook.received) == 2)
    assert webhook.titles[1] == "CoutureCast test: resolved, 2 alerts"


async def test_the_end_of_an_alert_is_sent_if_it_comes_while_its_first_message_is_being_sent(
    bench: Bench, redis: Redis, webhook: Webhook
) -> None:
    webhook.behaviour = "500"
    notifier = bench.notifier(webhook, retries=(1.0, 1.0))
    alerts = [Alert("color-extraction", "backlog", "132 queued")]
    bench.run(notifier)
    keeping = keeper(bench, redis, notifier, alerts)
    await keeping.check()
    await eventually(lambda: bool(webhook.received))
    alerts.clear()
    await keeping.check()  # the last pass: nothing fires any more
    webhook.behaviour = "ok"
    await eventually(lambda: "CoutureCast test: resolved" in webhook.titles)
    await eventually(bench.is_confirmed)


async def test_three_keepers_at_once_send_one_message(bench: Bench, redis_url: str, webhook: Webhook) -> None:
    alerts = [Alert("color-extraction", "backlog", "132 queued"), Alert(None, "redis", "gone", "critical")]
    keepers, notifiers = [], []
    async with AsyncExitStack() as stack:
        for _ in range(3):
            client = make_client(redis_url)
            stack.push_async_callback(client.aclose)
            notifiers.append(bench.notifier(webhook))
            bench.run(notifiers[-1])
            keepers.append(keeper(bench, client, notifiers[-1], alerts))
        await asyncio.gather(*(keeping.check() for keeping in keepers))
        await asyncio.gather(*(notifier.send_due() for notifier in notifiers))
        await eventually(bench.is_confirmed)
    assert len(webhook.received) == 1
    assert sum(notifier.counts["sent"] for notifier in notifiers) == 1


async def test_what_a_killed_keeper_recorded_is_sent_by_the_next(
    bench: Bench, redis_url: str, webhook: Webhook
) -> None:
    await bench.record(BACKLOG)  # and the process died
    notifier = bench.notifier(webhook)
    bench.run(notifier)
    client = make_client(redis_url)
    await keeper(bench, client, notifier, [Alert("color-extraction", "backlog", "133 queued")]).check()
    await client.aclose()
    await eventually(lambda: webhook.titles == ["CoutureCast test: warning"])


async def test_an_end_that_no_process_saw_is_sent_by_the_next_process(
    bench: Bench, redis_url: str, webhook: Webhook
) -> None:
    await bench.record(BACKLOG)
    await bench.record()  # and the process died
    notifier = bench.notifier(webhook)
    bench.run(notifier)
    client = make_client(redis_url)
    await keeper(bench, client, notifier, []).check()
    await client.aclose()
    await eventually(lambda: webhook.titles == ["CoutureCast test: resolved"])


async def test_what_a_keeper_claimed_and_did_not_send_is_sent_once_its_claim_has_expired(
    bench: Bench, webhook: Webhook, open_webhook: OpenWebhook
) -> None:
    killed = bench.notifier(await open_webhook("hang"))
    await bench.record(BACKLOG, NO_WORKER)
    assert await killed.send_due()
    following = bench.notifier(webhook)
    assert not await following.send_due()
    await bench.move_back(180)
    assert await following.send_due()
    await eventually(bench.is_confirmed)
    assert len(webhook.received) == 1
    assert not await killed.send_due()


@pytest.mark.parametrize("behaviour", ["500", "close", "hang", "slow"])
async def test_a_service_that_fails_is_tried_again_and_delays_no_other(
    bench: Bench, webhook: Webhook, open_webhook: OpenWebhook, behaviour: Behaviour
) -> None:
    broken = await open_webhook(behaviour)
    notifier = bench.notifier(broken, webhook, timeout=1.0, retries=(0.05, 0.05))
    await bench.record(BACKLOG)
    assert await notifier.send_due()
    await eventually(bench.is_confirmed)  # one that took it is enough
    await eventually(lambda: notifier.counts["failed"] == 1)
    assert len(webhook.received) == 1
    assert notifier.counts["sent"] == 1
    if behaviour in ("500", "close"):
        assert len(broken.received) == 3
    else:
        assert sum(thread.name == THREAD_NAME for thread in threading.enumerate()) <= 1


async def test_a_message_that_no_service_took_is_due_again_and_comes_when_one_answers(
    bench: Bench, webhook: Webhook
) -> None:
    webhook.behaviour = "500"
    notifier = bench.notifier(webhook)
    await bench.record(BACKLOG)
    assert await notifier.send_due()
    await eventually(lambda: notifier.counts["failed"] == 1)
    assert not await notifier.send_due()
    webhook.behaviour = "ok"
    await bench.move_back(180)
    assert await notifier.send_due()
    await eventually(bench.is_confirmed)


async def test_an_outage_of_the_database_is_sent_once_and_so_is_its_end(
    database: Database, redis: Redis, webhook: Webhook
) -> None:
    bench = Bench(AlertHistoryRepository(database))
    async with bench.stack:
        notifier = bench.notifier(webhook)
        alert = Alert(None, "database", "the database does not answer: gone", "critical")
        alerts = [alert]
        keeping = keeper(bench, redis, notifier, alerts)
        database.mark_unavailable(DatabaseUnavailableError("gone"))
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError):
                await keeping.check()
        await eventually(lambda: len(webhook.received) == 1)
        await database.start()
        await keeping.check()  # its snapshot is of a moment ago
        alerts.clear()
        await keeping.check()
        await eventually(lambda: notifier.counts["sent"] == 2)
        assert not await notifier.send_due()
        (record,) = (await bench.history.page(datetime.now(UTC))).items
        assert (record.alert, record.state, record.message) == ("database", "resolved", alert.message)
    assert webhook.titles == ["CoutureCast test: critical", "CoutureCast test: resolved"]
    assert webhook.lines[0] == "database: the database does not answer: gone"


async def test_the_end_of_the_process_waits_for_no_service(bench: Bench, open_webhook: OpenWebhook) -> None:
    notifier = bench.notifier(await open_webhook("hang"))
    await bench.record(BACKLOG)
    await notifier.send_due()
    async with asyncio.timeout(60):  # the service hangs for ever
        await notifier.close()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == THREAD_NAME)


async def test_a_service_that_hangs_lets_a_few_messages_wait_and_drops_the_others(
    open_webhook: OpenWebhook,
) -> None:
    (service,) = load_services((await open_webhook("hang")).url, timeout=1.0, retry_seconds=())
    deliveries = [asyncio.create_task(service.deliver(trial("test"))) for _ in range(30)]
    await asyncio.sleep(0)
    done = [delivery for delivery in deliveries if delivery.done()]
    assert [delivery.result()[0] for delivery in done] == ["dropped"] * 20
    for delivery in deliveries:
        delivery.cancel()
    await asyncio.wait(deliveries)


async def test_beyond_eight_messages_in_a_row_what_is_due_waits_and_comes_as_one(
    bench: Bench, webhook: Webhook
) -> None:
    notifier = bench.notifier(webhook)
    for number in range(12):
        await bench.record(*[replace(BACKLOG, subject=str(subject)) for subject in range(number + 1)])
        assert await notifier.send_due() == (number < 8)
    await eventually(lambda: len(webhook.received) == 8)
    notes = [line for line in webhook.lines if line.startswith("Further messages wait")]
    assert notes == ["Further messages wait: one in 5 min from now on."]
    assert notes[0] in webhook.received[7]["message"]


def test_twenty_messages_an_hour_are_the_most() -> None:
    now = [0.0]
    budget, sent = MessageBudget(8, 300.0, lambda: now[0]), []
    for second in range(0, 4 * 3600, 10):
        now[0] = float(second)
        if budget.available():
            budget.spend()
            sent.append(second)
    assert all(sum(first <= other < first + 3600 for other in sent) <= 20 for first in sent)
    assert all(later - earlier <= 300 for earlier, later in pairwise(sent))


@pytest.mark.parametrize("behaviour", ["ok", "500", "close"])
async def test_no_secret_of_a_url_is_logged_at_any_level(
    bench: Bench,
    open_webhook: OpenWebhook,
    behaviour: Behaviour,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from app import logs

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    logs.configure("debug")
    try:
        notifier = bench.notifier(await open_webhook(behaviour))
        await bench.record(BACKLOG)
        await notifier.send_due()
        await eventually(lambda: sum(notifier.counts.values()) == 1)
        await notifier.close()
        for handler in root.handlers:
            handler.flush()
    finally:
        root.handlers[:], root.level = before, level
    written = "".join(capfd.readouterr())
    assert ("a notification was not sent" in written) == (behaviour != "ok")
    assert not [secret for secret in SECRETS if secret in written]
