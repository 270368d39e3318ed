"""Alerts to real webhooks: each subscriber once, and nobody waits for a dead one."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from storage.database.engine import Database
from storage.errors import DatabaseUnavailableError
from storage.repositories.alerts import AlertRepository
from tests.integration.workers.handlers.conftest import FIRST, Answer, Request, Serve, Server, hang
from tests.support.engine import MakeBench
from tests.support.servers import free_port
from tests.support.waiting import eventually
from workers.handlers import alert as alert_module
from workers.handlers.alert import AlertHandler, AlertPayload, AlertResult, DeliveryError
from workers.handlers.base import validate_payload

DATA: dict[str, Any] = {
    "alert_id": "storm-1",
    "location_id": "lisboa",
    "event": "Severe Thunderstorm Warning",
    "severity": "severe",
    "starts_at": "2026-03-01T12:00:00+01:00",
    "ends_at": "2026-03-01T18:00:00Z",
    "description": "Hail and strong gusts.",
}
ALERT = validate_payload(AlertPayload, DATA)


@pytest.fixture
def store(database: Database) -> AlertRepository:
    return AlertRepository(database)


@pytest.fixture
async def handler(store: AlertRepository) -> AsyncIterator[AlertHandler]:
    """One that may reach the test's server."""
    handler = AlertHandler(store, allow_private_addresses=True)
    yield handler
    await handler.close()


@pytest.fixture
async def guarded(store: AlertRepository) -> AsyncIterator[AlertHandler]:
    """One as it is by default: https, and public addresses only."""
    handler = AlertHandler(store)
    yield handler
    await handler.close()


async def deliveries(database: Database) -> dict[int, tuple[bool, int, str | None]]:
    """By subscriber: whether it has the alert, the failures, and the last one in words."""
    query = text("SELECT subscriber_id, delivered_at IS NOT NULL, failures, last_error FROM alert_deliveries")
    async with database.connect() as connection:
        return {row[0]: (bool(row[1]), row[2], row[3]) for row in (await connection.execute(query)).all()}


async def test_each_subscriber_gets_the_alert_with_a_key_of_its_own(
    either_database: Database, server: Server
) -> None:
    store = AlertRepository(either_database)
    server.answers |= {"/a": Answer(200), "/b": Answer(204)}
    first = await store.add_subscriber("lisboa", "webhook", server.url("/a"))
    second = await store.add_subscriber("lisboa", "webhook", server.url("/b"))
    await store.add_subscriber("porto", "webhook", server.url("/porto"))
    handler = AlertHandler(store, allow_private_addresses=True)
    assert await handler.run(ALERT, FIRST) == AlertResult(delivered=2, already=0, gone=0)
    (to_a,), (to_b,) = server.asked("/a"), server.asked("/b")
    assert (to_a.method, to_a.headers["content-type"]) == ("POST", "application/json")
    assert to_a.headers["idempotency-key"] == f"storm-1:{first}"
    assert to_b.headers["idempotency-key"] == f"storm-1:{second}"
    assert to_a.json() == to_b.json() == {**DATA, "starts_at": "2026-03-01T12:00:00+01:00"}
    assert server.asked("/porto") == []
    assert await store.delivered_ids("storm-1") == {first, second}
    assert await handler.run(ALERT, FIRST) == AlertResult(delivered=0, already=2, gone=0)
    assert len(server.requests) == 2
    await handler.close()


async def test_a_retry_sends_only_what_has_not_been_sent(either_database: Database, server: Server) -> None:
    store = AlertRepository(either_database)
    states = iter([503, 500, 200])

    async def moody(request: Request) -> Answer:
        return Answer(next(states))

    server.answers |= {"/good": Answer(200), "/moody": moody}
    good = await store.add_subscriber("lisboa", "webhook", server.url("/good"))
    moody_id = await store.add_subscriber("lisboa", "webhook", server.url("/moody"))
    handler = AlertHandler(store, allow_private_addresses=True)
    for status in (503, 500):
        with pytest.raises(
            DeliveryError, match=f"1 of 2 subscribers not reached: subscriber {moody_id}: .* {status}"
        ):
            await handler.run(ALERT, FIRST)
    assert await handler.run(ALERT, FIRST) == AlertResult(delivered=1, already=1, gone=0)
    assert (len(server.asked("/good")), len(server.asked("/moody"))) == (1, 3)
    assert len({request.headers["idempotency-key"] for request in server.asked("/moody")}) == 1
    assert await deliveries(either_database) == {
        good: (True, 0, None),
        moody_id: (True, 2, f"subscriber {moody_id}: its webhook answers 500"),
    }
    await handler.close()


@pytest.mark.slow
async def test_dead_subscribers_neither_hold_up_nor_fail_the_others(
    store: AlertRepository, database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_module, "_TIMEOUT_SECONDS", 2.0)
    handler = AlertHandler(store, allow_private_addresses=True)
    arrived: list[float] = []

    async def note(request: Request) -> Answer:
        arrived.append(time.monotonic())
        return Answer(200)

    async def cut(request: Request) -> Answer:
        raise ConnectionError

    server.answers |= {
        "/hangs": hang,
        "/broken": Answer(500),
        "/cut": cut,
        "/moved": Answer(302),
        "/good": note,
    }
    dead = {
        await store.add_subscriber("lisboa", "webhook", url): why
        for url, why in {
            f"http://127.0.0.1:{free_port()}/": "connection",
            server.url("/hangs"): "no answer within 2 s",
            server.url("/broken"): "answers 500",
            server.url("/cut"): "disconnected",
            server.url("/moved"): "answers 302",
            "http://no-such-host.invalid/": "name",
        }.items()
    }
    good = {await store.add_subscriber("lisboa", "webhook", server.url("/good")) for _ in range(20)}
    start = time.monotonic()
    with pytest.raises(DeliveryError, match=r"6 of 26 subscribers not reached: .*; and 3 more"):
        await handler.run(ALERT, FIRST)
    assert len(arrived) == 20
    assert max(arrived) - start < 2.0, "they did not wait for the one that hangs"
    assert await store.delivered_ids("storm-1") == good
    for subscriber, (has_it, failures, error) in (await deliveries(database)).items():
        assert has_it == (subscriber in good)
        if subscriber in dead:
            assert failures == 1
            assert re.search(dead[subscriber], error or "", re.IGNORECASE), error
    await handler.close()


@pytest.mark.parametrize("status", [404, 410])
async def test_a_webhook_that_is_gone_fails_no_delivery(
    handler: AlertHandler, store: AlertRepository, database: Database, server: Server, status: int
) -> None:
    server.answers |= {"/gone": Answer(status), "/good": Answer(200)}
    gone = await store.add_subscriber("lisboa", "webhook", server.url("/gone"))
    good = await store.add_subscriber("lisboa", "webhook", server.url("/good"))
    assert await handler.run(ALERT, FIRST) == AlertResult(delivered=1, already=0, gone=1)
    assert await deliveries(database) == {
        gone: (False, 1, f"subscriber {gone}: its webhook is gone ({status})"),
        good: (True, 0, None),
    }


async def test_the_log_channel_writes_a_line(handler: AlertHandler, store: AlertRepository) -> None:
    subscriber = await store.add_subscriber("lisboa", "log")
    with capture_logs() as lines:
        assert (await handler.run(ALERT, FIRST)).delivered == 1
        assert (await handler.run(ALERT, FIRST)).already == 1
    assert lines == [
        {
            "event": "alert",
            "log_level": "info",
            "subscriber": subscriber,
            "location": "lisboa",
            "alert_event": "Severe Thunderstorm Warning",
        }
    ]


async def test_a_location_without_subscribers_is_no_failure(handler: AlertHandler) -> None:
    assert await handler.run(ALERT, FIRST) == AlertResult(delivered=0, already=0, gone=0)


async def test_plain_http_is_refused_by_default(
    guarded: AlertHandler, store: AlertRepository, database: Database, server: Server, only_public: None
) -> None:
    server.answers["/a"] = Answer(200)
    subscriber = await store.add_subscriber("lisboa", "webhook", server.url("/a"))
    assert (await guarded.run(ALERT, FIRST)).gone == 1
    assert server.requests == []
    assert (await deliveries(database))[subscriber][
        2
    ] == f"subscriber {subscriber}: its webhook is no https:// URL"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_loopback_is_refused_by_default(
    guarded: AlertHandler, store: AlertRepository, database: Database, serve: Serve, host: str
) -> None:
    server = await serve(tls=True)
    subscriber = await store.add_subscriber("lisboa", "webhook", server.url("/a", host=host))
    assert (await guarded.run(ALERT, FIRST)).gone == 1
    assert server.requests == []
    assert "which is not a public address" in str((await deliveries(database))[subscriber][2])


async def test_a_redirect_of_a_webhook_is_not_followed(
    handler: AlertHandler, store: AlertRepository, serve: Serve
) -> None:
    outside, inside = await serve(), await serve("127.0.0.2")
    outside.answers["/a"] = Answer(307, headers={"Location": inside.url("/admin")})
    await store.add_subscriber("lisboa", "webhook", outside.url("/a"))
    with pytest.raises(DeliveryError, match="answers 307"):
        await handler.run(ALERT, FIRST)
    assert inside.requests == []


async def test_https_delivers_if_the_certificate_is_good(
    store: AlertRepository, serve: Serve, only_public: None, request: pytest.FixtureRequest
) -> None:
    server = await serve(tls=True)
    server.answers["/a"] = Answer(200)
    await store.add_subscriber("lisboa", "webhook", server.url("/a", host="localhost"))
    stranger = AlertHandler(store)
    with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
        await stranger.run(ALERT, FIRST)
    await stranger.close()
    request.getfixturevalue("trusted_certificate")
    trusting = AlertHandler(store)
    assert (await trusting.run(ALERT, FIRST)).delivered == 1
    await trusting.close()


@pytest.mark.parametrize(
    "url", [None, "", "ftp://example.com/", "http://xn--/", "http://[::1", "http://a:99x/"]
)
async def test_a_webhook_that_is_not_a_url_fails_no_delivery(
    handler: AlertHandler, store: AlertRepository, server: Server, url: str | None
) -> None:
    server.answers["/good"] = Answer(200)
    await store.add_subscriber("lisboa", "webhook", url)
    await store.add_subscriber("lisboa", "webhook", server.url("/good"))
    assert await handler.run(ALERT, FIRST) == AlertResult(delivered=1, already=0, gone=1)


@pytest.mark.parametrize(
    ("alert_id", "sent"),
    [("tempête-ü/1", "temp%C3%AAte-%C3%BC/1"), ("two words\r\nX-Evil: 1", "two%20words%0D%0AX-Evil%3A%201")],
)
async def test_any_alert_id_makes_a_header(
    handler: AlertHandler, store: AlertRepository, server: Server, alert_id: str, sent: str
) -> None:
    server.answers["/a"] = Answer(200)
    subscriber = await store.add_subscriber("lisboa", "webhook", server.url("/a"))
    await handler.run(ALERT.model_copy(update={"alert_id": alert_id}), FIRST)
    (request,) = server.requests
    assert request.headers["idempotency-key"] == f"{sent}:{subscriber}"
    assert "x-evil" not in request.headers
    assert request.json()["alert_id"] == alert_id
    assert await store.delivered_ids(alert_id) == {subscriber}


async def test_an_answer_that_never_ends_is_a_delivery(
    handler: AlertHandler, store: AlertRepository, server: Server
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    server.answers["/a"] = Answer(200, more=endless())
    await store.add_subscriber("lisboa", "webhook", server.url("/a"))
    start = time.monotonic()
    assert (await handler.run(ALERT, FIRST)).delivered == 1
    assert time.monotonic() - start < 8, "and not when the attempt's time is over"


async def test_without_a_database_the_attempt_ends_when_all_deliveries_have(
    handler: AlertHandler, store: AlertRepository, database: Database, server: Server
) -> None:
    """Otherwise the next attempt would meet those still under way."""
    release, ended = asyncio.Event(), []

    async def slow(request: Request) -> Answer:
        async with database.begin() as connection:
            await connection.execute(text("DROP TABLE IF EXISTS alert_deliveries"))
        await release.wait()
        ended.append(request.path)
        return Answer(200)

    server.answers |= {"/slow": slow, "/good": Answer(200)}
    await store.add_subscriber("lisboa", "webhook", server.url("/slow"))
    await store.add_subscriber("lisboa", "webhook", server.url("/good"))
    run = asyncio.create_task(handler.run(ALERT, FIRST))
    await eventually(lambda: len(server.requests) == 2)
    done, _ = await asyncio.wait({run}, timeout=0.2)
    assert not done, "the other delivery is still under way"
    release.set()
    with pytest.raises(Exception, match="alert_deliveries") as raised:
        await run
    assert ended == ["/slow"]
    assert not isinstance(raised.value, DeliveryError | DatabaseUnavailableError)


async def test_an_alert_job_is_retried_until_all_have_it(
    make_bench: MakeBench, handler: AlertHandler, store: AlertRepository, server: Server
) -> None:
    bench = make_bench(name="alert-fanout", function="fan_out_alert", concurrency=20, timeout=10)
    states = iter([500, 500, 200])

    async def moody(request: Request) -> Answer:
        return Answer(next(states))

    server.answers |= {"/moody": moody, "/good": Answer(200)}
    await store.add_subscriber("lisboa", "webhook", server.url("/moody"))
    for _ in range(3):
        await store.add_subscriber("lisboa", "webhook", server.url("/good"))
    await bench.start(handler.as_function())
    result = await bench.stock.apply("fan_out_alert", timeout=10, **DATA)
    assert result == {"delivered": 1, "already": 3, "gone": 0}
    assert (len(server.asked("/moody")), len(server.asked("/good"))) == (3, 3)
    assert (await bench.total("retried"), await bench.letters.count()) == (2, 0)


async def test_an_alert_that_cannot_be_delivered_is_a_dead_letter_that_names_the_subscriber(
    make_bench: MakeBench, handler: AlertHandler, store: AlertRepository, server: Server
) -> None:
    bench = make_bench(name="alert-fanout", function="fan_out_alert", concurrency=20, timeout=10)
    server.answers["/good"] = Answer(200)
    dead = await store.add_subscriber("lisboa", "webhook", f"http://127.0.0.1:{free_port()}/")
    await store.add_subscriber("lisboa", "webhook", server.url("/good"))
    await bench.start(handler.as_function())
    await bench.stock.enqueue("fan_out_alert", **DATA)
    await eventually(bench.letters.count, what="the dead letter")
    (letter,) = (await bench.letters.page()).items
    assert letter.attempts == 4
    assert letter.error_message.startswith(f"1 of 2 subscribers not reached: subscriber {dead}: ")
    assert len(server.asked("/good")) == 1
