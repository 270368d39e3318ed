"""Puts the parts together: settings, servers, stores, handlers, worker process, operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from app.errors import AppError, UsageError
from app.process.exit import abort
from app.servers.data_dir import prepare_data_dir
from app.servers.database_startup import DatabaseUse, open_database
from app.servers.embedded_valkey import EmbeddedServer
from app.servers.redis_startup import wait_for_redis
from app.settings import Settings
from app.version import VERSION
from storage.asyncio_tools import cancel_and_wait
from storage.cache.change_listener import ChangeListener
from storage.cache.tags import ALL_TAG, InvalidateTags
from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.alerts import AlertRepository
from storage.repositories.moderation import ModerationRepository
from storage.repositories.palettes import PaletteRepository
from storage.repositories.weather import WeatherRepository
from workers.engine.policy import ALERT, COLOR, WEATHER, QueuePolicy
from workers.engine.runner import SaqFunction
from workers.engine.schedules import Schedule
from workers.errors import HandlerImportError
from workers.handlers.base import Enqueue, Handler
from workers.handlers.registry import PAYLOAD_MODELS, load_custom_handlers
from workers.operations.operations import NewJob, Operations
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)

_REVIVE_SECONDS = 1.0


@dataclass(frozen=True)
class Appliance:
    """What a command works with.  ``process`` is None where the command runs no workers."""

    settings: Settings
    operations: Operations
    database: Database
    data_dir: Path
    process: WorkerProcess | None
    redis_url: str = field(repr=False)


@asynccontextmanager
async def appliance(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    *,
    run: Iterable[str] = (),
    database: DatabaseUse = "required",
) -> AsyncIterator[Appliance]:
    """Everything, started in order and closed in reverse; workers for the queues in ``run``, which need the
    database, as others say by ``database``.

    The worker process takes no jobs before its ``start``.  Raises AppError.
    """
    run = tuple(run)
    replaced = custom_handlers(settings, policies)
    async with AsyncExitStack() as stack:
        data_dir = prepare_data_dir(settings.data_dir)
        redis_url = await _redis(settings, data_dir, stack, works=bool(run))
        opened = await open_database(settings, data_dir, stack, "required" if run else database)
        letters = DeadLetterRepository(opened)
        process = None
        operations_slot: list[Operations] = []
        if run:
            functions = await _functions(settings, policies, opened, run, replaced, operations_slot, stack)
            process = WorkerProcess(
                redis_url,
                policies=[policies[name] for name in run],
                functions=functions,
                letters=letters,
                drain_seconds=settings.drain_seconds,
                pace=settings.pace,
                schedules=[_weather_schedule(WeatherRepository(opened))],
                version=VERSION,
                give_up=abort,
            )
            stack.push_async_callback(process.close)
        operations = Operations(
            redis_url,
            policies=list(policies.values()),
            schemas={name: model for name, model in PAYLOAD_MODELS.items() if name not in replaced},
            database=opened,
            letters=letters,
            process=process,
            environment=settings.environment,
            read_only=settings.read_only,
            weather_provider="offline" if settings.openweather_api_key is None else "openweather",
            cache_url=settings.cache_redis_url.get_secret_value() if settings.cache_redis_url else None,
        )
        operations_slot.append(operations)
        stack.push_async_callback(operations.close)
        if run:
            listening = asyncio.create_task(_listen(opened, operations))
            stack.push_async_callback(cancel_and_wait, [listening])
        yield Appliance(settings, operations, opened, data_dir, process, redis_url)


async def _listen(database: Database, operations: Operations) -> None:
    """What other programs change in the database, the cache hears; after a gap, that anything may have."""

    async def hear(subject: str) -> None:
        await operations.cache.hear(subject)

    try:
        await ChangeListener(database, on_change=hear, on_gap=lambda: hear(ALL_TAG)).run()
    except Exception:
        log.exception("changes by other programs are no longer heard")
        raise


def custom_handlers(settings: Settings, policies: Mapping[str, QueuePolicy]) -> dict[str, SaqFunction]:
    """The functions that COUTURECAST_HANDLERS names, by queue.  Raises UsageError."""
    try:
        return load_custom_handlers(settings.handlers, policies)
    except HandlerImportError as error:
        raise UsageError(error.problem, field="COUTURECAST_HANDLERS", fix=error.fix) from None


async def _redis(settings: Settings, data_dir: Path, stack: AsyncExitStack, *, works: bool) -> str:
    if settings.redis_url is None:
        server = EmbeddedServer(data_dir)
        joining = asyncio.create_task(asyncio.to_thread(server.acquire))
        stack.push_async_callback(_leave, server, joining)
        await asyncio.shield(joining)
        keeper = asyncio.create_task(_keep_alive(server))
        stack.callback(keeper.cancel)
        return server.url
    url = settings.redis_url.get_secret_value()
    await wait_for_redis(url, settings.start_patience, works=works)
    return url


async def _leave(server: EmbeddedServer, joining: asyncio.Task[None]) -> None:
    """An interrupted start goes on in its thread: what it starts is to be stopped too."""
    await asyncio.wait({joining})
    await asyncio.to_thread(server.release)


async def _keep_alive(server: EmbeddedServer) -> None:
    """Start the embedded server again when it dies; its append-only file has all that was acknowledged."""
    while True:
        await asyncio.sleep(_REVIVE_SECONDS)
        try:
            if await asyncio.to_thread(server.restart_if_dead):
                log.warning("the embedded Valkey had died and was started again")
        except (AppError, OSError) as error:  # as where no descriptor is free: the next time may do
            log.warning("the embedded Valkey cannot be started again", error=str(error))


async def _functions(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    database: Database,
    run: Iterable[str],
    replaced: Mapping[str, SaqFunction],
    operations: list[Operations],
    stack: AsyncExitStack,
) -> dict[str, SaqFunction]:
    """The function of each queue in ``run``: the replaced one, or the built-in handler's."""

    async def enqueue(queue: str, data: Mapping[str, Any], *, key: str | None = None) -> bool:
        (done,) = await operations[0].hand_on(queue, [NewJob(data, key)])
        return done is not None

    async def invalidate(*subjects: str) -> None:
        await operations[0].cache.hear(*subjects)

    functions: dict[str, SaqFunction] = dict(replaced)
    for name in run:
        if name not in functions:
            handler = _handler(name, settings, policies[name], database, enqueue, invalidate)
            stack.push_async_callback(handler.close)
            functions[name] = handler.as_function()
    return functions


def _handler(
    name: str,
    settings: Settings,
    policy: QueuePolicy,
    database: Database,
    enqueue: Enqueue,
    invalidate: InvalidateTags,
) -> Handler[Any, Any]:
    """The built-in handler of a queue; each is imported only where it is needed."""
    private = settings.allow_private_addresses
    if name == WEATHER:
        from workers.handlers.weather.handler import OfflineWeather, OpenWeather, WeatherHandler

        key = settings.openweather_api_key
        base_url = str(settings.openweather_base_url).rstrip("/")
        provider = OpenWeather(key.get_secret_value(), base_url) if key is not None else OfflineWeather()
        return WeatherHandler(WeatherRepository(database), provider, enqueue, invalidate)
    if name == ALERT:
        from workers.handlers.alert import AlertHandler

        return AlertHandler(AlertRepository(database), allow_private_addresses=private)
    if name == COLOR:
        from workers.handlers.color.handler import ColorHandler
        from workers.handlers.process_pool import CpuPool

        folders = settings.image_dirs
        return ColorHandler(
            PaletteRepository(database),
            CpuPool(policy.concurrency),
            image_dirs=folders,
            allow_private_addresses=private,
        )
    from workers.handlers.moderation.handler import ModerationHandler, ModerationService

    if settings.moderation_url is None:
        return ModerationHandler(ModerationRepository(database))
    secret = settings.moderation_key
    service = ModerationService(str(settings.moderation_url), secret.get_secret_value() if secret else None)
    return ModerationHandler(ModerationRepository(database), service)


def _weather_schedule(store: WeatherRepository) -> Schedule:
    """The weather of each known location, every 15 minutes."""

    async def jobs() -> dict[str, dict[str, Any]]:
        return {
            f"scheduled-{each.id}": {"location_id": each.id, "lat": each.lat, "lon": each.lon}
            for each in await store.locations()
        }

    return Schedule("weather", "*/15 * * * *", WEATHER, jobs)
