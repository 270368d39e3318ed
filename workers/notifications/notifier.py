"""Sends the messages about alerts that are due: each once in the cluster, and nothing waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from storage.asyncio_tools import BackgroundTasks
from storage.errors import StorageError
from storage.repositories.alert_history import (
    AlertChanges,
    AlertHistoryRepository,
    AlertRecord,
    FiringAlert,
)
from workers.monitoring.alert_rules import DATABASE, DEFAULTS, Thresholds
from workers.notifications.decisions import (
    MAX_RESOLVED_SECONDS,
    UNRECORDED_ID,
    DueLine,
    awaits_message,
    due_lines,
    due_occasion,
    unrecorded_alert,
)
from workers.notifications.messages import Message, compose
from workers.notifications.services import NotificationService

log = structlog.get_logger(__name__)

_COLLECT_SECONDS = 10.0
"""From the first change to the message: others join it."""
_BURST_MESSAGES, _REFILL_SECONDS = 8, 300.0
"""Messages at once, and until one more may be sent: at most 20 in an hour."""
_POLL_SECONDS = 60.0
"""Between two reads of the database while a message about an alert that is over has not been sent."""
_CLOSE_SECONDS = 1.5
"""How long the end of the process waits for messages that are being sent."""


class MessageBudget:
    """``burst`` messages at once, and one more each ``refill_seconds``."""

    def __init__(self, burst: int, refill_seconds: float, clock: Callable[[], float]) -> None:
        self._burst, self._refill_seconds, self._clock = burst, refill_seconds, clock
        self._tokens = float(burst)
        self._counted_at = clock()

    def available(self) -> int:
        """Return how many messages may be sent now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) / self._refill_seconds)
        self._counted_at = now
        return int(self._tokens)

    def spend(self) -> None:
        """Count one message."""
        self._tokens -= 1


class Notifier:
    """Takes the changes of each pass of the alert keeper by `notify`; `run` sends what is due.

    An alert is claimed in its row before its message is sent, and confirmed when a service has taken it.  If
    the process dies between the two, the claim expires and the next keeper sends the message: it may come
    twice, and is not lost.  Without services nothing is done.
    """

    def __init__(
        self,
        history: AlertHistoryRepository,
        services: Sequence[NotificationService],
        environment: str,
        *,
        thresholds: Thresholds = DEFAULTS,
        collect_seconds: float = _COLLECT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history = history
        self._services = services
        self._environment = environment
        self._thresholds = thresholds
        self._collect_seconds = collect_seconds
        self._budget = MessageBudget(_BURST_MESSAGES, _REFILL_SECONDS, clock)
        self._counts = {"sent": 0, "failed": 0, "dropped": 0}
        self._tasks = BackgroundTasks()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._due = asyncio.Event()
        self._is_new = True
        """Whether the database may still have what a process that died has not sent."""
        self._is_unfinished = False
        """Whether something will be due that no further pass may report."""
        self._outage: AlertRecord | None = None
        """The alert that the database is unavailable, if this process has sent it: no row can hold that."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages of this process by outcome: ``sent``, ``failed``, ``dropped``; one for each service."""
        return self._counts

    def notify(self, changes: AlertChanges) -> None:
        """Have what is due sent soon; neither waits nor raises."""
        if self._services:
            now = datetime.now(UTC)
            if self._outage is not None:
                self._start_delivery([DueLine(replace(self._outage, resolved_at=now), "resolved")], now)
                self._outage = None
            records = (*changes.firing, *changes.resolved)
            if self._is_new or any(
                due_occasion(record, now) or awaits_message(record, now) for record in records
            ):
                self._due.set()

    def notify_unrecorded(self, firing: Sequence[FiringAlert]) -> None:
        """Have it sent that the database is unavailable, once; neither waits nor raises."""
        alert = next((alert for alert in firing if alert.alert == DATABASE), None)
        if alert is None or not self._services or self._outage is not None or self._budget.available() < 1:
            return
        now = datetime.now(UTC)
        self._outage = unrecorded_alert(alert, now)
        self._start_delivery([DueLine(self._outage, "fired")], now)

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS if self._is_unfinished else None):
                    await self._due.wait()
            await asyncio.sleep(self._collect_seconds)
            self._due.clear()
            try:
                await self.send_due()
            except StorageError as error:
                self._is_unfinished = True
                log.debug("notifications wait for the database", error=str(error))

    async def send_due(self) -> bool:
        """Claim what is due and start to send it, as one message; False if nothing is.

        Raises StorageError.
        """
        now = datetime.now(UTC)
        records = await self._history.notifiable(now - timedelta(seconds=MAX_RESOLVED_SECONDS), now)
        self._is_new = False
        self._is_unfinished = any(awaits_message(record, now) for record in records)
        lines = due_lines(records, now)
        if not lines or self._budget.available() < 1:
            return False
        claimed = [line.claim(now) for line in lines]
        changes = [(line.record, new.record.notified) for line, new in zip(lines, claimed, strict=True)]
        won = await self._history.replace_notified(changes)
        mine = [line for line in claimed if line.record.id in won]
        if not mine:
            return False
        self._start_delivery(mine, now)
        return True

    async def close(self) -> None:
        """End what is being sent, after a short wait for it."""
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=_CLOSE_SECONDS)
        await self._tasks.close()

    def _start_delivery(self, lines: Sequence[DueLine], now: datetime) -> None:
        self._budget.spend()
        is_last = self._budget.available() < 1
        note = f"Further messages wait: one in {_REFILL_SECONDS / 60:g} min from now on." if is_last else ""
        message = compose(lines, self._environment, now, note=note, thresholds=self._thresholds)
        delivery = self._tasks.start(self._deliver(message, lines))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def _deliver(self, message: Message, lines: Sequence[DueLine]) -> None:
        """Send by all services; the alerts are confirmed as soon as one has taken the message."""
        sends = [self._tasks.start(self._send(service, message)) for service in self._services]
        is_confirmed = False
        for send in asyncio.as_completed(sends):
            if await send and not is_confirmed:
                is_confirmed = True
                await self._confirm(lines)
                if self._is_unfinished:  # what has ended since it was claimed is due now
                    self._due.set()

    async def _send(self, service: NotificationService, message: Message) -> bool:
        outcome, problem = await service.deliver(message)
        self._counts[outcome] += 1
        if problem:
            log.warning("a notification was not sent", service=service.label, reason=problem)
        return not problem

    async def _confirm(self, lines: Sequence[DueLine]) -> None:
        now = datetime.now(UTC)
        recorded = [line for line in lines if line.record.id != UNRECORDED_ID]
        try:
            if recorded:
                await self._history.replace_notified((line.record, line.confirm(now)) for line in recorded)
        except StorageError as error:
            log.warning("a notification was sent and may be sent again", error=str(error))
