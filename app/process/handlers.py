"""Makes the handlers of this process, built-in or custom, and the schedules that feed them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from app.custom_handlers import handler_source, import_inline, to_usage_error
from app.settings import Settings
from storage.asyncio_tools import cancel_and_wait
from storage.cache.tags import InvalidateTags
from storage.database.engine import Database
from storage.repositories.alerts import AlertRepository
from storage.repositories.moderation import ModerationRepository
from storage.repositories.palettes import PaletteRepository
from storage.repositories.weather import WeatherRepository
from workers.engine.policy import ALERT, COLOR, WEATHER, QueuePolicy
from workers.engine.runner import SaqFunction
from workers.engine.schedules import Schedule
from workers.errors import HandlerImportError
from workers.handlers.base import Enqueue, Handler
from workers.handlers.processes.launch import Streams
from workers.handlers.processes.pool import EnqueueJob, HandlerPool
from workers.handlers.processes.reload import log_broken, replace_on_change
from workers.process.background_tasks import restart_after_defects

log = structlog.get_logger(__name__)


async def open_handlers(
    policies: Mapping[str, QueuePolicy],
    custom: Mapping[str, str],
    settings: Settings,
    database: Database,
    *,
    enqueue: Enqueue,
    enqueue_job: EnqueueJob,
    invalidate: InvalidateTags,
    stack: AsyncExitStack,
    streams: Streams | None = None,
    reload: bool = False,
) -> dict[str, SaqFunction]:
    """Return the function of each queue: custom, or of the built-in handler, which ``stack`` closes.

    With ``streams`` processes run in the foreground; with ``reload`` they are replaced when their code
    changes.  Raises UsageError if a custom one cannot be imported, unless a change of its code can help.
    """
    functions: dict[str, SaqFunction] = {}
    pools: list[HandlerPool] = []
    for name, policy in policies.items():
        if name not in custom:
            handler = _built_in_handler(name, settings, policy, database, enqueue, invalidate)
            stack.push_async_callback(handler.close)
            functions[name] = handler.as_function()
        elif policy.run == "inline":
            functions[name] = _import_inline(policy, custom[name], settings)
        else:
            source = handler_source(policy, custom[name], settings, streams)
            pools.append(HandlerPool(source, enqueue_job, settings.handlers_recycle))
            stack.push_async_callback(pools[-1].close)
            functions[name] = pools[-1].as_function()
    await _start_pools(pools, reload=reload)
    if reload:
        _reload(pools, stack)
    return functions


def _reload(pools: Sequence[HandlerPool], stack: AsyncExitStack) -> None:
    """Replace processes when their code changes, until ``stack`` is left."""
    if not pools:
        log.warning("--reload: no handler runs in a process of its own, so none is reloaded")
    tasks = [asyncio.create_task(restart_after_defects(partial(replace_on_change, pool))) for pool in pools]
    stack.push_async_callback(cancel_and_wait, tasks)


def _import_inline(policy: QueuePolicy, name: str, settings: Settings) -> SaqFunction:
    try:
        return import_inline(policy, name, settings)
    except HandlerImportError as error:
        raise to_usage_error(error) from None


async def _start_pools(pools: Sequence[HandlerPool], *, reload: bool) -> None:
    """Start all at once: each imports what its handler needs."""
    results = await asyncio.gather(*(pool.start() for pool in pools), return_exceptions=True)
    for pool, started in zip(pools, results, strict=True):
        if isinstance(started, HandlerImportError):
            if not (reload and pool.waits_for_code):
                raise to_usage_error(started) from None
            log_broken(pool, started)
        elif started is not None:
            raise started


def weather_schedule(weather: WeatherRepository) -> Schedule:
    """Ingest the weather of each known location every 15 minutes."""

    async def jobs() -> dict[str, dict[str, Any]]:
        return {
            f"scheduled-{location.id}": {
                "location_id": location.id,
                "lat": location.lat,
                "lon": location.lon,
            }
            for location in await weather.locations()
        }

    return Schedule("weather", "*/15 * * * *", WEATHER, jobs)


def _built_in_handler(
    queue: str,
    settings: Settings,
    policy: QueuePolicy,
    database: Database,
    enqueue: Enqueue,
    invalidate: InvalidateTags,
) -> Handler[Any, Any]:
    """Return the built-in handler of a queue; its module is imported only if the handler is needed."""
    allow_private = settings.allow_private_addresses
    if queue == WEATHER:
        from workers.handlers.weather.handler import OfflineWeather, OpenWeather, WeatherHandler

        key = settings.openweather_api_key
        base_url = str(settings.openweather_base_url).rstrip("/")
        provider = OpenWeather(key.get_secret_value(), base_url) if key is not None else OfflineWeather()
        return WeatherHandler(WeatherRepository(database), provider, enqueue, invalidate)
    if queue == ALERT:
        from workers.handlers.alert import AlertHandler

        return AlertHandler(AlertRepository(database), allow_private_addresses=allow_private)
    if queue == COLOR:
        from workers.handlers.color.handler import ColorHandler
        from workers.handlers.process_pool import CpuPool

        return ColorHandler(
            PaletteRepository(database),
            CpuPool(policy.concurrency),
            image_dirs=settings.image_dirs,
            allow_private_addresses=allow_private,
        )
    from workers.handlers.moderation.handler import ModerationHandler, ModerationService

    if settings.moderation_url is None:
        return ModerationHandler(ModerationRepository(database))
    secret = settings.moderation_key
    service = ModerationService(str(settings.moderation_url), secret.get_secret_value() if secret else None)
    return ModerationHandler(ModerationRepository(database), service)
