"""Sends one alert to every subscriber of a location, each exactly once."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

import httpx
import structlog
from pydantic import AwareDatetime, BaseModel, Field

from storage.alerts import AlertStore, Subscriber
from workers import net
from workers.errors import PermanentError
from workers.handlers.base import Handler, JobContext, Payload
from workers.policy import ALERT

log = structlog.get_logger(__name__)

_AT_ONCE = 10  # deliveries of one alert
_TIMEOUT = 5.0  # s for one webhook, so that one dead subscriber leaves time for a retry within the job's 10 s
_REFUSED_FOR_GOOD = (404, 410)


class DeliveryError(Exception):
    """Some subscribers did not take the alert; all others have it, and a retry reaches only these."""


class AlertPayload(Payload):
    """One alert; times have a zone."""

    alert_id: str = Field(min_length=1, max_length=200)
    location_id: str = Field(min_length=1, max_length=200)
    event: str = Field(min_length=1, max_length=200)
    severity: Literal["moderate", "severe", "extreme"]
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    description: str = Field(default="", max_length=5000)


class AlertResult(BaseModel):
    """Subscribers by what became of them in this attempt."""

    delivered: int
    already: int
    gone: int
    """Subscribers whose webhook answers that it exists no longer."""


class AlertHandler(Handler[AlertPayload, AlertResult]):
    """Webhooks go out over HTTPS with an idempotency key; a subscriber on channel ``log`` gets a log line."""

    queue: ClassVar[str] = ALERT
    payload_model = AlertPayload

    def __init__(self, store: AlertStore, *, allow_private_addresses: bool = False) -> None:
        self._store = store
        self._allow_plain = allow_private_addresses
        self._http = net.client(allow_private_addresses=allow_private_addresses, timeout=_TIMEOUT)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(self, payload: AlertPayload, context: JobContext) -> AlertResult:
        """Deliver to all who do not have it.  Raises DeliveryError after all others have been served."""
        delivered = await self._store.delivered(payload.alert_id)
        subscribers = await self._store.subscribers(payload.location_id)
        todo = [each for each in subscribers if each.id not in delivered]
        outcomes = await asyncio.gather(*(self._serve(payload, each) for each in todo))
        failed = [outcome for outcome in outcomes if outcome not in ("delivered", "gone")]
        if failed:
            raise DeliveryError(f"{len(failed)} of {len(subscribers)} subscribers not reached: {failed[0]}")
        return AlertResult(
            delivered=outcomes.count("delivered"),
            already=len(subscribers) - len(todo),
            gone=outcomes.count("gone"),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _serve(self, alert: AlertPayload, subscriber: Subscriber) -> str:
        """``delivered``, ``gone``, or in words why not."""
        async with self._places:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    outcome = await self._send(alert, subscriber)
            except (httpx.HTTPError, TimeoutError, PermanentError) as error:
                outcome = f"subscriber {subscriber.id}: {str(error) or type(error).__name__}"
        if outcome == "delivered":
            await self._store.record_delivery(alert.alert_id, subscriber.id)
        else:
            await self._store.record_failure(alert.alert_id, subscriber.id, outcome)
        return outcome

    async def _send(self, alert: AlertPayload, subscriber: Subscriber) -> str:
        if subscriber.channel == "log":
            log.info("alert", subscriber=subscriber.id, location=alert.location_id, alert_event=alert.event)
            return "delivered"
        url = subscriber.url or ""
        if not url.startswith("https://") and not (self._allow_plain and url.startswith("http://")):
            raise PermanentError("its webhook is no https:// URL")
        response = await self._http.post(
            url,
            json=alert.model_dump(mode="json"),
            headers={"Idempotency-Key": f"{alert.alert_id}:{subscriber.id}"},
        )
        if response.status_code in _REFUSED_FOR_GOOD:
            return "gone"
        if not response.is_success:
            return f"subscriber {subscriber.id}: webhook answers {response.status_code}"
        return "delivered"
