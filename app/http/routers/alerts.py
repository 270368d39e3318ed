"""Alerts: what is wrong now, what was, and the decisions of operators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from app.http.dependencies import ActorOperations, State
from app.http.models import QueueName, Reason, RequestBody, example
from app.http.problems import problem_responses
from app.http.routing import strict_router
from storage.repositories.alert_history import MAX_ALERTS
from workers.monitoring.alert_rules import BY_NAME, Severity
from workers.monitoring.snapshot import AlertState
from workers.operations.alerts import MAX_SILENCE_SECONDS, current_alerts

router = strict_router("alerts", "/api/v1/alerts")


def _check_alert(alert: str) -> str:
    if alert not in BY_NAME:
        raise ValueError(f"unknown alert: use one of {', '.join(BY_NAME)}")
    return alert


AlertName = Annotated[
    str, AfterValidator(_check_alert), WithJsonSchema({"type": "string", "enum": list(BY_NAME)})
]
_EVERY_NAME = "Its name; null: of every name."
_EVERY_QUEUE = "Of one queue; null: of every queue, and of the servers."


class AlertItem(BaseModel):
    """An alert now."""

    model_config = example(
        alert="backlog",
        queue="color-extraction",
        subject="",
        state="firing",
        severity="warning",
        title="backlog",
        message="132 queued, limit 100",
        since="2026-03-01T12:00:00Z",
        seconds=75.0,
        value=132,
        limit=100,
        unit="jobs",
        acknowledged_by=None,
        acknowledge_reason=None,
        silenced_by=None,
        silenced_until=None,
        silence_reason=None,
    ) | ConfigDict(from_attributes=True)

    alert: str
    queue: str | None
    subject: str = Field(description="Tells several of one name and queue apart: a process, a plan.")
    state: AlertState
    severity: Severity
    title: str
    message: str
    since: datetime | None = Field(description="When the breach began.")
    seconds: float | None = Field(description="How long it has lasted.")
    value: float | None
    limit: float | None
    unit: str = Field(description="Of value and limit: jobs, s, share (0 to 1) or times.")
    acknowledged_by: str | None
    acknowledge_reason: str | None
    silenced_by: str | None
    silenced_until: datetime | None
    silence_reason: str | None


class AlertList(BaseModel):
    """All alerts, the worst first."""

    items: list[AlertItem]
    next: None = Field(None, description="There is one page.")


class HistoryQuery(BaseModel):
    """Selects a page of the history."""

    limit: int = Field(50, ge=1, le=MAX_ALERTS, description="Most items of the page.")
    cursor: str | None = Field(None, description="`next` of the page before.")


class HistoryItem(BaseModel):
    """The life of an alert, from when it fired."""

    model_config = example(
        id=12,
        alert="backlog",
        queue="color-extraction",
        subject="",
        state="resolved",
        fired_at="2026-03-01T12:00:00Z",
        resolved_at="2026-03-01T12:00:00Z",
        value=80,
        peak=412,
        message="132 queued, limit 100",
        acknowledged_by="http:anna",
        acknowledged_at="2026-03-01T12:00:00Z",
        acknowledge_reason="the shop sends a season's photographs",
        silenced_by=None,
        silenced_until=None,
        silence_reason=None,
        notified={},
    ) | ConfigDict(from_attributes=True)

    id: int
    alert: str
    queue: str = Field(description="Empty if it is about a server.")
    subject: str
    state: Literal["firing", "acknowledged", "silenced", "resolved"]
    fired_at: datetime
    resolved_at: datetime | None
    value: float | None
    peak: float | None = Field(description="The greatest value.")
    message: str
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    acknowledge_reason: str | None
    silenced_by: str | None
    silenced_until: datetime | None
    silence_reason: str | None
    notified: dict[str, Any] = Field(
        description="What notifications were sent, and when; `seen_at`: when a process last saw it."
    )


class HistoryPage(BaseModel):
    """One page, the newest first."""

    model_config = ConfigDict(from_attributes=True)

    items: list[HistoryItem]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class AcknowledgeRequest(RequestBody):
    """Which alerts are acknowledged."""

    model_config = example(alert="backlog", queue="color-extraction", reason="the import runs until noon")

    alert: AlertName
    queue: QueueName | None = Field(None, description=_EVERY_QUEUE)
    reason: Reason = ""


class AcknowledgedAlerts(BaseModel):
    """Alerts that were acknowledged until they are resolved."""

    model_config = example(count=1, by="http:anna")

    count: int = Field(description="Those that were not acknowledged before.")
    by: str


class SilenceRequest(RequestBody):
    """Which alerts are silenced, and for how long."""

    model_config = example(alert="backlog", queue="color-extraction", seconds=3600, reason="CDN is down")

    alert: AlertName | None = Field(description=_EVERY_NAME)
    queue: QueueName | None = Field(None, description=_EVERY_QUEUE)
    seconds: float = Field(ge=1, le=MAX_SILENCE_SECONDS)
    reason: str = Field(min_length=1, max_length=500, description="Shown with the alert.")


class SilencedAlerts(BaseModel):
    """Alerts that are silent for a time."""

    model_config = example(
        alert="backlog", queue="color-extraction", until="2026-03-01T12:00:00Z", by="http:anna"
    )

    alert: str | None
    queue: str | None
    until: datetime
    by: str


class UnsilenceRequest(RequestBody):
    """Which silences end: those of exactly this alert and queue."""

    model_config = example(alert="backlog", queue="color-extraction")

    alert: AlertName | None = Field(description=_EVERY_NAME)
    queue: QueueName | None = Field(None, description=_EVERY_QUEUE)


class EndedSilences(BaseModel):
    """Silences that were ended."""

    model_config = example(count=1)

    count: int


@router.get("", summary="What is wrong now, the worst first", response_description="All alerts.")
async def list_alerts(operations: ActorOperations, state: State) -> AlertList:
    """While the database is unavailable, what operators have decided is not shown."""
    items = [AlertItem.model_validate(alert) for alert in current_alerts(await state.snapshot())]
    return AlertList(items=items)


@router.get(
    "/history",
    summary="Alerts that fired, the newest first",
    response_description="One page.",
)
async def list_history(operations: ActorOperations, query: Annotated[HistoryQuery, Query()]) -> HistoryPage:
    """Give `next` as `cursor` to get the following page."""
    page = await operations.alerts.history(limit=query.limit, cursor=query.cursor)
    return HistoryPage.model_validate(page)


@router.post(
    "/ack",
    summary="Acknowledge alerts that fire",
    response_description="How many were acknowledged.",
    responses=problem_responses(404),
)
async def acknowledge_alerts(operations: ActorOperations, body: AcknowledgeRequest) -> AcknowledgedAlerts:
    """It lasts until the alert is resolved.  404 if no alert of that name and queue fires."""
    records = await operations.alerts.acknowledge(body.alert, body.queue, body.reason)
    return AcknowledgedAlerts(count=len(records), by=operations.actor)


@router.post("/silence", summary="Silence alerts for a time", response_description="Until when.")
async def silence_alerts(operations: ActorOperations, body: SilenceRequest) -> SilencedAlerts:
    """Alerts that fire now or later notify nobody, and do not count in the health."""
    until = await operations.alerts.silence(body.alert, body.queue, body.seconds, body.reason)
    return SilencedAlerts(alert=body.alert, queue=body.queue, until=until, by=operations.actor)


@router.post("/unsilence", summary="End silences", response_description="How many were ended.")
async def unsilence_alerts(operations: ActorOperations, body: UnsilenceRequest) -> EndedSilences:
    """Silences of other names or queues that cover the same alerts go on."""
    return EndedSilences(count=await operations.alerts.end_silence(body.alert, body.queue))
