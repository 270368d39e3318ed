"""Feeds sample jobs and simulates readers for ``--demo``; some jobs fail on purpose."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import structlog

from app.process.composition import Appliance
from app.settings import Settings
from storage.repositories.alerts import AlertRepository
from storage.repositories.weather import Location, WeatherRepository
from workers.engine.policy import ALERT, COLOR, MODERATION, WEATHER, QueuePolicy
from workers.operations.operations import OPERATION_ERRORS, NewJob

log = structlog.get_logger(__name__)

SAMPLES = Path(str(files(__package__).joinpath("samples")))

LOCATIONS = (
    Location("lisboa", "Lisboa", 38.72, -9.14),
    Location("porto", "Porto", 41.15, -8.61),
    Location("tromso", "Tromsø", 69.65, 18.96),
    Location("singapore", "Singapore", 1.35, 103.82),
    Location("ushuaia", "Ushuaia", -54.8, -68.3),
)
_NAMES = ("anna", "bruno", "chidi", "dalia", "emre", "freja", "goran", "hana")
USERS = tuple(f"{name}-{number}" for number in range(1, 6) for name in _NAMES)
_STYLES = ("classic", "street", "minimal", "romantic")
_CHANGE_SHARE = 0.02
"""Share of the readers who change their preferences first."""
_TEXTS = (
    "Love how this linen drapes, perfect for August.",
    "Selling mine, write to me at anna@example.com",
    "The sleeves run short. Size up!",
    "Call +351 912 345 678 for a discount",
    "what the fuck is this colour",
    "See www.cheap-bags.shop for more",
)


def demo_settings(settings: Settings) -> Settings:
    """Return settings with embedded servers and offline weather: samples must not reach real servers."""
    overrides: dict[str, Any] = {
        "redis_url": None,
        "cache_redis_url": None,
        "database_url": None,
        "direct_url": None,
        "openweather_api_key": None,
        "moderation_url": None,
        "notify_urls": None,
        "handlers": "",
    }
    ignored = [name.upper() for name in overrides if getattr(settings, name)]
    if ignored:
        log.warning("--demo uses embedded servers and no service: settings ignored", settings=ignored)
    return settings.model_copy(update={**overrides, "image_dirs": [*settings.image_dirs, SAMPLES / "images"]})


def demo_policies(policies: Mapping[str, QueuePolicy]) -> dict[str, QueuePolicy]:
    """Return the policies with all queues on the embedded server."""
    queues = [name for name, policy in policies.items() if policy.redis_url]
    if queues:
        log.warning("--demo uses embedded servers: the Redises of single queues are ignored", queues=queues)
    return {name: replace(policy, redis_url="") for name, policy in policies.items()}


async def run_feed(appliance: Appliance) -> None:
    """Enqueue a job and read a payload every fraction of a second, until cancelled."""
    try:
        await seed(appliance)
        async with asyncio.TaskGroup() as group:
            group.create_task(run_readers(appliance))
            group.create_task(_enqueue(appliance))
    except Exception:
        log.exception("the sample feed ended")
        raise


async def _enqueue(appliance: Appliance) -> None:
    """Enqueue sample jobs; log those that are refused."""
    for queue, data in _jobs():
        try:
            await appliance.enqueueing.enqueue_many(queue, [NewJob(data)])
        except OPERATION_ERRORS as error:
            log.warning("sample job refused", queue=queue, error=str(error))
        await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - a pace, not a secret


async def run_readers(appliance: Appliance) -> None:
    """Read payloads as users do: some read often, and now and then one changes their preferences."""
    operations = appliance.operations
    weights = [1 / (number + 1) for number in range(len(USERS))]
    while True:
        number = random.choices(range(len(USERS)), weights)[0]  # noqa: S311
        user, home = USERS[number], LOCATIONS[number % len(LOCATIONS)]
        try:
            if random.random() < _CHANGE_SHARE:  # noqa: S311
                await appliance.preferences.put(user, _preferences())
            await operations.personalization.payload(user, home.id)
        except OPERATION_ERRORS as error:
            log.warning("sample payload not read", user=user, error=str(error))
        await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311


def _preferences() -> dict[str, Any]:
    return {"style": random.choice(_STYLES), "feels_cold": random.random() < 0.3}  # noqa: S311


async def seed(appliance: Appliance) -> None:
    """Write locations, subscribers and preferences."""
    weather, alerts = WeatherRepository(appliance.database), AlertRepository(appliance.database)
    for location in LOCATIONS:
        await weather.add_location(location)
        if not await alerts.subscribers(location.id):
            for _ in range(3):
                await alerts.add_subscriber(location.id, "log")
    preferences = appliance.preferences
    for user in USERS:
        if not await preferences.get(user):
            await preferences.put(user, _preferences())
    if not await alerts.subscribers("nowhere"):
        await alerts.add_subscriber("nowhere", "webhook", "https://webhook.invalid/alerts")


def _jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    images = sorted(path.name for path in (SAMPLES / "images").iterdir() if path.suffix in (".jpg", ".png"))
    makers = (
        lambda number: (WEATHER, sample_weather(number)),
        _alert,
        lambda number: _color(number, images),
        lambda number: (MODERATION, sample_text(number)),
    )
    weights = (0.2, 0.3, 0.25, 0.25)
    for number in itertools.count(int(time.time())):
        yield random.choices(makers, weights)[0](number)  # noqa: S311


def sample_weather(number: int) -> dict[str, Any]:
    """Return the arguments of a weather job."""
    location = LOCATIONS[number % len(LOCATIONS)]
    return {"location_id": location.id, "lat": location.lat, "lon": location.lon}


def sample_alert(number: int, *, fails: bool = False) -> dict[str, Any]:
    """Return the arguments of an alert job."""
    start = datetime.now(UTC)
    return {
        "alert_id": f"demo-{number}",
        "location_id": "nowhere" if fails else LOCATIONS[number % len(LOCATIONS)].id,
        "event": "Gale warning",
        "severity": "severe",
        "starts_at": start.isoformat(),
        "ends_at": (start + timedelta(hours=6)).isoformat(),
        "description": "A sample alert.",
    }


def sample_text(number: int) -> dict[str, Any]:
    """Return the arguments of a moderation job."""
    return {"content_id": f"comment-{number}", "text": _TEXTS[number % len(_TEXTS)]}


def _alert(number: int) -> tuple[str, dict[str, Any]]:
    return ALERT, sample_alert(number, fails=number % 29 == 0)


def _color(number: int, images: list[str]) -> tuple[str, dict[str, Any]]:
    is_missing = number % 23 == 0
    image = f"lost-upload-{number}.jpg" if is_missing else images[number % len(images)]
    return COLOR, {"item_id": f"garment-{number}", "image": image}
