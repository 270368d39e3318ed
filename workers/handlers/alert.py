"""Sends one alert to every subscriber of a location, each exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote

import structlog
from pydantic import AwareDatetime, BaseModel, Field

from couturecast_handlers import PermanentError
from storage.repositories.alerts import AlertRepository, Subscriber
from workers.engine.policy import ALERT
from workers.handlers.base import Handler, JobContext, Payload
from workers.handlers.lazy_http import LazyHttpClient

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

_MAX_CONCURRENT = 30  # deliveries of one alert; 20 alerts run at once, and a process may open 1,024 files
_TIMEOUT_SECONDS = 4.0  # for one webhook: dead ones leave time for others within the job's 10 s
_GONE_STATUSES = (404, 410)
_MAX_NAMES = 3  # subscribers that an error names
T = TypeVar("T")


class DeliveryError(Exception):
    """Some subscribers did not take the alert; all others have it, and a retry reaches only these."""


class AlertPayload(Payload):
    """One alert; times have a zone."""

    alert_id: str = Field(min_length=1, max_length=200, description="Sent once to each subscriber")
    location_id: str = Field(min_length=1, max_length=200, description="Whose subscribers get it")
    event: str = Field(min_length=1, max_length=200, description="For instance Gale warning")
    severity: Literal["moderate", "severe", "extreme"]
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    description: str = Field(default="", max_length=5000)


class AlertResult(BaseModel):
    """Subscribers by what became of them in this attempt."""

    delivered: int
    already: int
    """Had it from an attempt before."""
    gone: int
    """Cannot be reached for good: the webhook is gone (404, 410), no https URL, or at a refused address."""


class Outcome(Enum):
    """The result of one delivery."""

    DELIVERED = "delivered"
    GONE = "gone"
    FAILED = "failed"


class AlertHandler(Handler[AlertPayload, AlertResult]):
    """Webhooks go out over HTTPS with an idempotency key; a subscriber on channel ``log`` gets a log line."""

    queue: ClassVar[str] = ALERT
    payload_model = AlertPayload

    def __init__(self, store: AlertRepository, *, allow_private_addresses: bool = False) -> None:
        self._store = store
        self._schemes = ("https://", "http://") if allow_private_addresses else ("https://",)
        self._http = LazyHttpClient(allow_private_addresses=allow_private_addresses, timeout=_TIMEOUT_SECONDS)

    async def run(self, payload: AlertPayload, context: JobContext) -> AlertResult:
        """Deliver to all who do not have it.  Raises DeliveryError after all others have been served."""
        delivered = await self._store.delivered_ids(payload.alert_id)
        subscribers = await self._store.subscribers(payload.location_id)
        todo = [subscriber for subscriber in subscribers if subscriber.id not in delivered]
        random.shuffle(todo)  # a time limit must not cut off the same ones in each attempt
        limit = asyncio.Semaphore(_MAX_CONCURRENT)
        served = await _all(*(self._serve(payload, subscriber, limit) for subscriber in todo))
        outcomes = [outcome for outcome, _ in served]
        failures = [reason for outcome, reason in served if outcome is Outcome.FAILED]
        if failures:
            more = "" if len(failures) <= _MAX_NAMES else f"; and {len(failures) - _MAX_NAMES} more"
            raise DeliveryError(
                f"{len(failures)} of {len(subscribers)} subscribers not reached: "
                f"{'; '.join(sorted(failures)[:_MAX_NAMES])}{more}"
            )
        return AlertResult(
            delivered=outcomes.count(Outcome.DELIVERED),
            already=len(subscribers) - len(todo),
            gone=outcomes.count(Outcome.GONE),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _serve(
        self, alert: AlertPayload, subscriber: Subscriber, limit: asyncio.Semaphore
    ) -> tuple[Outcome, str]:
        """Send, and record the result; returns why it failed, in words."""
        async with limit:
            outcome, reason = await self._try(alert, subscriber)
        if outcome is Outcome.DELIVERED:
            await self._store.record_delivery(alert.alert_id, subscriber.id)
        else:
            reason = f"subscriber {subscriber.id}: {reason}"
            await self._store.record_failure(alert.alert_id, subscriber.id, reason)
        return outcome, reason

    async def _try(self, alert: AlertPayload, subscriber: Subscriber) -> tuple[Outcome, str]:
        if subscriber.channel == "log":
            log.info("alert", subscriber=subscriber.id, location=alert.location_id, alert_event=alert.event)
            return Outcome.DELIVERED, ""
        url = subscriber.url or ""
        if not url.startswith(self._schemes):
            return Outcome.GONE, "its webhook is no https:// URL"
        http = await self._http.open()
        import httpx

        from workers.handlers import http_client as net

        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                status = await self._post(http, url, alert, subscriber.id)
        except PermanentError as error:
            return Outcome.GONE, str(error)
        except net.NO_URL:
            return Outcome.GONE, "its webhook is no URL"
        except (httpx.TimeoutException, TimeoutError):
            return Outcome.FAILED, f"no answer within {_TIMEOUT_SECONDS:g} s"
        except httpx.HTTPError as error:
            return Outcome.FAILED, net.reason(error)
        if status in _GONE_STATUSES:
            return Outcome.GONE, f"its webhook is gone ({status})"
        if not 200 <= status < 300:
            return Outcome.FAILED, f"its webhook answers {status}"
        return Outcome.DELIVERED, ""

    async def _post(self, http: httpx.AsyncClient, url: str, alert: AlertPayload, subscriber_id: int) -> int:
        """Return the status of the answer.  Its body is not read: it might never end."""
        headers = {"Idempotency-Key": f"{quote(alert.alert_id)}:{subscriber_id}"}  # a header is ASCII
        body = alert.model_dump(mode="json")
        async with http.stream("POST", url, json=body, headers=headers) as response:
            return response.status_code


async def _all(*deliveries: Coroutine[Any, Any, T]) -> list[T]:
    """Return their results.  If one raises (the database is down), that is raised after all have ended.

    Otherwise those still under way would meet the next attempt, and subscribers get the alert twice.
    """
    results = await asyncio.gather(*deliveries, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
