"""Weather from a server that speaks One Call 3.0, and from the provider that needs none."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue
from sqlalchemy import text

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError
from storage.repositories.alerts import AlertRepository
from storage.repositories.weather import Weather, WeatherRepository, time_block
from tests.integration.workers.handlers.conftest import FIRST, Answer, Server, hang
from tests.support.operations import build_operations
from tests.support.waiting import eventually
from workers.engine.policy import ALERT, DEFAULT_POLICIES, WEATHER
from workers.handlers.alert import AlertHandler
from workers.handlers.base import Enqueue
from workers.handlers.registry import PAYLOAD_MODELS
from workers.handlers.weather import handler as weather
from workers.handlers.weather.handler import (
    OfflineWeather,
    OpenWeather,
    WeatherHandler,
    WeatherPayload,
    WeatherUnavailableError,
    alert_job,
)
from workers.operations.operations import Operations
from workers.process.worker_process import WorkerProcess

ONE_CALL = "/data/3.0/onecall"
SAMPLE: dict[str, Any] = json.loads(Path(__file__).with_name("onecall.json").read_text())
LISBON = WeatherPayload(location_id="lisboa", lat=38.72234, lon=-9.13934)
KEY = "0123456789abcdef"


@pytest.fixture
async def operations(redis_url: str, database: Database) -> AsyncIterator[Operations]:
    operations = build_operations(
        redis_url,
        policies=list(DEFAULT_POLICIES.values()),
        schemas=PAYLOAD_MODELS,
        database=database,
        letters=DeadLetterRepository(database),
    )
    yield operations
    await operations.close()


@pytest.fixture
def enqueue(operations: Operations) -> Enqueue:
    """Hands on as the appliance does."""

    async def enqueue(queue: str, data: Any, *, key: str | None = None) -> bool:
        return await operations.queues.enqueue(queue, data, key=key) is not None

    return enqueue


@pytest.fixture
async def provider(server: Server) -> AsyncIterator[OpenWeather]:
    provider = OpenWeather(KEY, server.url())
    server.answers[ONE_CALL] = Answer.json(SAMPLE)
    yield provider
    await provider.close()


async def unheard(*subjects: str) -> None:
    """No cache listens."""


async def nowhere(queue: str, data: Any, *, key: str | None = None) -> bool:
    raise AssertionError("no alert is expected here")


async def rows(database: Database) -> int:
    async with database.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM weather"))).scalar_one())


async def test_the_query_is_the_documented_one(provider: OpenWeather, server: Server) -> None:
    await provider.fetch(38.72234, -9.13934)
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", ONE_CALL)
    assert request.query == {
        "lat": "38.7223",
        "lon": "-9.1393",
        "units": "metric",
        "exclude": "minutely",
        "appid": KEY,
    }


async def test_an_answer_is_stored_as_it_came(
    provider: OpenWeather, either_database: Database, enqueue: Enqueue
) -> None:
    store = WeatherRepository(either_database)
    before = datetime.now(UTC)
    result = await WeatherHandler(store, provider, enqueue, unheard).run(LISBON, FIRST)
    assert (result.location_id, result.provider, result.temperature, result.alerts) == (
        "lisboa",
        "openweather",
        19.4,
        2,
    )
    stored = await store.latest("lisboa")
    assert stored is not None
    assert stored.time_block == result.time_block == time_block(stored.fetched_at)
    assert before <= stored.fetched_at <= datetime.now(UTC)
    assert (stored.provider, stored.current) == ("openweather", SAMPLE["current"])
    assert stored.forecast == {"hourly": SAMPLE["hourly"], "daily": SAMPLE["daily"]}


async def test_a_second_run_changes_nothing_but_the_time_of_fetching(
    provider: OpenWeather, either_database: Database, enqueue: Enqueue
) -> None:
    store = WeatherRepository(either_database)
    handler = WeatherHandler(store, provider, enqueue, unheard)
    stored: list[Weather] = []
    results = []
    for _ in range(2):
        results.append(await handler.run(LISBON, FIRST))
        found = await store.latest("lisboa")
        assert found is not None
        stored.append(found)
    first, second = stored
    if first.time_block == second.time_block:  # a block may end between the two runs
        assert results[0] == results[1]
        assert await rows(either_database) == 1
        assert (first.current, first.forecast, first.provider) == (
            second.current,
            second.forecast,
            second.provider,
        )
    assert first.fetched_at <= second.fetched_at


async def test_alerts_become_jobs_with_the_alerts_identity_as_key(
    provider: OpenWeather, database: Database, enqueue: Enqueue, redis_url: str, redis: Redis
) -> None:
    handler = WeatherHandler(WeatherRepository(database), provider, enqueue, unheard)
    await handler.run(LISBON, FIRST)
    await handler.run(LISBON, FIRST)  # the same two alerts, still queued
    stock = RedisQueue.from_url(redis_url, name=ALERT)
    assert await stock.count("queued") == 2
    job_ids = [job_id.decode() for job_id in await redis.lrange(f"saq:{ALERT}:queued", 0, -1)]
    jobs = [await stock.job(stock.job_key_from_id(job_id)) for job_id in job_ids]
    await stock.disconnect()
    arguments = [job.kwargs for job in jobs if job is not None and job.kwargs is not None]
    for job, data in zip(jobs, arguments, strict=True):
        assert job is not None
        assert (job.function, job.key) == ("fan_out_alert", f"alert-{data['alert_id']}")
    storm, craft = sorted(arguments, key=lambda data: str(data["event"]))
    assert storm == {
        "alert_id": storm["alert_id"],
        "location_id": "lisboa",
        "event": "Severe Thunderstorm Warning",
        "severity": "severe",
        "starts_at": "2023-05-24T18:25:47+00:00",
        "ends_at": "2023-05-25T04:25:47+00:00",
        "description": SAMPLE["alerts"][0]["description"],
    }
    assert (craft["event"], craft["severity"]) == ("Small Craft Advisory", "moderate")


async def test_an_alert_given_twice_in_one_answer_is_one_job(
    provider: OpenWeather, server: Server, database: Database, enqueue: Enqueue, redis_url: str
) -> None:
    alert = SAMPLE["alerts"][0]
    server.answers[ONE_CALL] = Answer.json(
        {**SAMPLE, "alerts": [alert, {**alert, "description": "em breve"}]}
    )
    await WeatherHandler(WeatherRepository(database), provider, enqueue, unheard).run(LISBON, FIRST)
    stock = RedisQueue.from_url(redis_url, name=ALERT)
    assert await stock.count("queued") == 1
    await stock.disconnect()


async def test_an_alert_with_odd_text_is_handed_on_all_the_same(
    provider: OpenWeather, server: Server, database: Database, enqueue: Enqueue, redis_url: str
) -> None:
    odd = {"event": "", "start": 1, "end": 0, "sender_name": "x", "description": "nul \x00 " + "ü" * 9000}
    server.answers[ONE_CALL] = Answer.json({**SAMPLE, "alerts": [odd]})
    await WeatherHandler(WeatherRepository(database), provider, enqueue, unheard).run(LISBON, FIRST)
    stock = RedisQueue.from_url(redis_url, name=ALERT)
    assert await stock.count("queued") == 1
    await stock.disconnect()


@pytest.mark.parametrize("status", [401, 404, 400, 403, 301])
async def test_answers_that_will_not_change_are_permanent(
    provider: OpenWeather, server: Server, status: int
) -> None:
    server.answers[ONE_CALL] = Answer.json({"cod": status, "message": f"{KEY} is odd"}, status)
    with pytest.raises(PermanentError, match=f"{status}") as raised:
        await provider.fetch(1, 2)
    if status == 401:
        assert "OPENWEATHER_API_KEY" in str(raised.value)
    assert_no_key(raised.value)


@pytest.mark.parametrize("status", [429, 408, 500, 502, 503, 504])
async def test_answers_that_may_pass_are_retried(provider: OpenWeather, server: Server, status: int) -> None:
    server.answers[ONE_CALL] = Answer.json({"cod": status}, status)
    with pytest.raises(WeatherUnavailableError, match=f"{status} from the weather service") as raised:
        await provider.fetch(1, 2)
    assert_no_key(raised.value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "no JSON"),
        (b"<html>busy</html>", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "no JSON"),
        (b"{}", "current"),
        (b'{"current": {"temp": "warm"}}', r"current\.temp"),
        (b'{"current": {"temp": NaN}}', r"current\.temp"),
        (b'{"current": {"temp": 1}, "alerts": [{"event": "x", "end": 1}]}', r"alerts\.0\.start"),
        (b'{"current": {"temp": 1}, "alerts": [{"start": 1e300, "end": 1}]}', r"alerts\.0\.start"),
    ],
)
async def test_garbage_is_retried_and_named(
    provider: OpenWeather, server: Server, body: bytes, field: str
) -> None:
    server.answers[ONE_CALL] = Answer(200, body)
    with pytest.raises(WeatherUnavailableError, match=f"cannot be read: .*{field}") as raised:
        await provider.fetch(1, 2)
    assert_no_key(raised.value)


async def test_a_service_that_hangs_or_is_down_is_retried_and_the_key_is_in_no_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weather, "_TIMEOUT_SECONDS", 0.2)
    provider = OpenWeather(KEY, server.url())
    server.answers[ONE_CALL] = hang
    with pytest.raises(WeatherUnavailableError, match="ReadTimeout") as hung:
        await provider.fetch(1, 2)
    await server.stop()
    with pytest.raises(WeatherUnavailableError, match="ConnectError") as refused:
        await provider.fetch(1, 2)
    await provider.close()
    assert_no_key(hung.value)
    assert_no_key(refused.value)


async def test_an_answer_that_drips_is_given_up_when_its_time_is_over(
    provider: OpenWeather, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    monkeypatch.setattr(weather, "_ANSWER_SECONDS", 0.3)
    server.answers[ONE_CALL] = Answer(200, more=drip())
    with pytest.raises(WeatherUnavailableError, match="TimeoutError"):
        await provider.fetch(1, 2)


async def test_an_answer_without_an_end_is_cut_off(provider: OpenWeather, server: Server) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 100_000

    server.answers[ONE_CALL] = Answer(200, more=endless())
    with pytest.raises(PermanentError, match="larger than 5,000,000 bytes") as raised:
        await provider.fetch(1, 2)
    assert_no_key(raised.value)


def assert_no_key(error: BaseException) -> None:
    """Neither in the message nor in a traceback that a dead letter keeps."""
    assert KEY not in "".join(traceback.format_exception(error))


async def test_a_failed_fetch_stores_nothing(
    provider: OpenWeather, server: Server, database: Database
) -> None:
    server.answers[ONE_CALL] = Answer(503)
    with pytest.raises(WeatherUnavailableError):
        await WeatherHandler(WeatherRepository(database), provider, nowhere, unheard).run(LISBON, FIRST)
    assert await rows(database) == 0


async def test_without_a_database_the_job_is_retried(provider: OpenWeather, tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path}/missing/x.db")
    with pytest.raises(DatabaseUnavailableError):
        await WeatherHandler(WeatherRepository(away), provider, nowhere, unheard).run(LISBON, FIRST)
    await away.close()


async def test_offline_weather_is_stored_and_marked_as_such(either_database: Database) -> None:
    store = WeatherRepository(either_database)
    handed_on: list[str | None] = []

    async def note(queue: str, data: Any, *, key: str | None = None) -> bool:
        handed_on.append(key)
        return True

    handler = WeatherHandler(store, OfflineWeather(), note, unheard)
    result = await handler.run(LISBON, FIRST)
    stored = await store.latest("lisboa")
    assert stored is not None
    assert (result.provider, stored.provider) == ("offline", "offline")
    assert (stored.current["temp"], len(handed_on)) == (result.temperature, result.alerts)
    assert (len(stored.forecast["hourly"]), len(stored.forecast["daily"])) == (48, 2)


async def test_from_the_weather_service_to_a_subscribers_webhook(
    provider: OpenWeather,
    server: Server,
    database: Database,
    operations: Operations,
    enqueue: Enqueue,
    redis_url: str,
) -> None:
    server.answers["/hook"] = Answer(204)
    alerts = AlertRepository(database)
    await alerts.add_subscriber("lisboa", "webhook", server.url("/hook"))
    handlers = [
        WeatherHandler(WeatherRepository(database), provider, enqueue, unheard),
        AlertHandler(alerts, allow_private_addresses=True),
    ]
    process = WorkerProcess(
        redis_url,
        policies=[DEFAULT_POLICIES[WEATHER], DEFAULT_POLICIES[ALERT]],
        functions={handler.queue: handler.as_function() for handler in handlers},
        letters=DeadLetterRepository(database),
    )
    await process.start()
    await operations.queues.enqueue(WEATHER, LISBON.model_dump())

    async def completed() -> int:
        snapshot = await operations.snapshot()
        return sum(queue.completed for queue in snapshot.queues)

    async def first_ended() -> bool:
        return await completed() == 3

    async def all_ended() -> bool:
        return await completed() == 6

    # An alert whose job is still in flight would not be enqueued again.
    await eventually(first_ended, what="a weather job and both alerts")
    assert len(server.asked("/hook")) == 2
    assert await operations.queues.enqueue(WEATHER, LISBON.model_dump()) is not None
    await eventually(all_ended, what="two weather jobs, and each alert twice")
    assert len(server.asked("/hook")) == 2, "an alert that comes again is not sent again"
    process.begin_drain()
    assert await process.wait_drained() == 0
    await process.close()
    await handlers[1].close()
    sent = {request.json()["alert_id"] for request in server.asked("/hook")}
    assert sent == {
        alert_job("lisboa", weather.WeatherAlert(**alert))["alert_id"] for alert in SAMPLE["alerts"]
    }


async def test_the_blocks_follow_each_other(database: Database) -> None:
    store = WeatherRepository(database)
    now = datetime.now(UTC)
    for hours in (0, 3, 6):
        block = time_block(now + timedelta(hours=hours))
        await store.upsert(Weather("lisboa", block, "offline", {"temp": float(hours)}, {}, now))
    found = await store.latest("lisboa")
    assert found is not None
    assert (await rows(database), found.current) == (3, {"temp": 6.0})
