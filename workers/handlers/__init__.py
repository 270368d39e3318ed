"""The built-in handlers, one a queue."""

from __future__ import annotations

from pydantic import BaseModel

from workers.handlers.alert import AlertPayload
from workers.handlers.color import ColorPayload
from workers.handlers.moderation import ModerationPayload
from workers.handlers.weather import WeatherPayload
from workers.policy import ALERT, COLOR, MODERATION, WEATHER

PAYLOAD_MODELS: dict[str, type[BaseModel]] = {
    WEATHER: WeatherPayload,
    ALERT: AlertPayload,
    COLOR: ColorPayload,
    MODERATION: ModerationPayload,
}
"""The schema of each queue's payload, by queue name."""
