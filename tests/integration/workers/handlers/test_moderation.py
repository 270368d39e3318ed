"""Decisions about user content: by the rules, by a service that speaks OpenAI's moderations, by a person."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.repositories.moderation import Decision, ModerationRepository
from tests.integration.workers.handlers.conftest import FIRST, Answer, Server, Ticker, hang
from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.handlers.moderation import handler as moderation
from workers.handlers.moderation.handler import (
    ModerationHandler,
    ModerationPayload,
    ModerationResult,
    ModerationService,
    ServiceUnavailableError,
)

PATH = "/v1/moderations"
KEY = "sk-0123456789abcdef"
DOUBTFUL = ModerationPayload(content_id="c1", text="See www.cheap-bags.shop for more")
IMAGE = ModerationPayload(content_id="c1", image="https://example.com/dress.jpg")


def moderated(flagged: bool, **categories: bool | None) -> Answer:
    """An answer as the API's reference has it."""
    harmless = ("sexual", "hate", "harassment", "self-harm", "violence", "violence/graphic", "illicit")
    result = {
        "flagged": flagged,
        "categories": dict.fromkeys(harmless, False) | categories,
        "category_scores": dict.fromkeys(harmless, 0.0001),
        "category_applied_input_types": {name: ["text"] for name in harmless},
    }
    return Answer.json({"id": "modr-970d409ef3bef", "model": "omni-moderation-latest", "results": [result]})


@pytest.fixture
def store(database: Database) -> ModerationRepository:
    return ModerationRepository(database)


@pytest.fixture
async def service(server: Server) -> AsyncIterator[ModerationService]:
    service = ModerationService(server.url(PATH), KEY)
    yield service
    await service.close()


async def decide(handler: ModerationHandler, **content: str) -> ModerationResult:
    return await handler.run(ModerationPayload(content_id="c1", **content), FIRST)


@pytest.mark.parametrize(
    ("content", "decision", "reasons"),
    [
        ({"text": "Love how this linen drapes, perfect for August."}, "approved", []),
        ({"text": "what the fuck is this colour"}, "rejected", ["profanity: fuck"]),
        ({"text": "what the f.u.c.k is this, see www.x.org"}, "rejected", ["profanity: fuck", "a link"]),
        ({"text": "you are a b1tch"}, "needs_human", ["possibly disguised profanity"]),
        ({"text": "See www.cheap-bags.shop for more"}, "needs_human", ["a link"]),
        ({"text": "Call +351 912 345 678 for a discount"}, "needs_human", ["a phone number"]),
        ({"text": "write to anna@example.com"}, "needs_human", ["a link", "an e-mail address"]),
        ({"image": "uploads/dress.jpg"}, "needs_human", ["an image"]),
        ({"image": "https://example.com/dress.jpg"}, "needs_human", ["an image"]),
    ],
    ids=["clean", "profane", "profane-and-link", "disguised", "link", "phone", "e-mail", "path", "url"],
)
async def test_the_rules_decide_and_the_reasons_are_stored(
    store: ModerationRepository, content: dict[str, str], decision: str, reasons: list[str]
) -> None:
    result = await decide(ModerationHandler(store), **content)
    assert (result.decision, result.reasons, result.decided_by) == (decision, reasons, "rules")
    assert await store.get("c1") == Decision("c1", decision, reasons, "rules")


async def test_a_second_run_replaces_the_decision(either_database: Database) -> None:
    store = ModerationRepository(either_database)
    handler = ModerationHandler(store)
    await decide(handler, text="what the fuck")
    await decide(handler, text="Lovely.")
    assert await store.get("c1") == Decision("c1", "approved", [], "rules")
    async with either_database.connect() as connection:
        count = (await connection.execute(text("SELECT count(*) FROM moderation_decisions"))).scalar_one()
    assert count == 1


async def test_the_request_follows_the_reference_of_the_service(
    store: ModerationRepository, service: ModerationService, server: Server
) -> None:
    server.answers[PATH] = moderated(False)
    handler = ModerationHandler(store, service)
    await handler.run(DOUBTFUL, FIRST)
    await handler.run(IMAGE, FIRST)
    for request in server.requests:
        assert (request.method, request.headers["authorization"]) == ("POST", f"Bearer {KEY}")
        assert request.headers["content-type"] == "application/json"
    assert [request.json() for request in server.requests] == [
        {"input": DOUBTFUL.text},
        {"input": [{"type": "image_url", "image_url": {"url": IMAGE.image}}]},
    ]


async def test_without_a_key_no_header_is_sent(store: ModerationRepository, server: Server) -> None:
    server.answers[PATH] = moderated(False)
    service = ModerationService(server.url(PATH), None)
    await ModerationHandler(store, service).run(DOUBTFUL, FIRST)
    assert "authorization" not in server.requests[0].headers
    await service.close()


@pytest.mark.parametrize("content", [DOUBTFUL, IMAGE], ids=["text", "image"])
async def test_what_the_service_flags_is_rejected_and_the_rest_approved(
    store: ModerationRepository, service: ModerationService, server: Server, content: ModerationPayload
) -> None:
    handler = ModerationHandler(store, service)
    server.answers[PATH] = moderated(True, **{"sexual": True, "violence/graphic": True, "illicit": None})
    await handler.run(content, FIRST)
    assert await store.get("c1") == Decision("c1", "rejected", ["sexual", "violence/graphic"], "service")
    server.answers[PATH] = moderated(True)
    await handler.run(content, FIRST)
    assert await store.get("c1") == Decision("c1", "rejected", ["flagged"], "service")
    server.answers[PATH] = moderated(False)
    await handler.run(content, FIRST)
    why = ["a link"] if content is DOUBTFUL else ["an image"]
    assert await store.get("c1") == Decision("c1", "approved", why, "service")


async def test_clear_texts_and_files_of_ours_are_not_sent_to_the_service(
    store: ModerationRepository, service: ModerationService, server: Server
) -> None:
    handler = ModerationHandler(store, service)
    assert (await decide(handler, text="Lovely.")).decision == "approved"
    assert (await decide(handler, text="what the fuck")).decision == "rejected"
    assert (await decide(handler, image="uploads/dress.jpg")).decision == "needs_human"
    assert server.requests == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_request_to_a_busy_service_is_retried(
    store: ModerationRepository, service: ModerationService, server: Server, status: int
) -> None:
    server.answers[PATH] = Answer.json({"error": {"message": "slow down"}}, status)
    with pytest.raises(ServiceUnavailableError, match=f"{status} from the moderation service") as raised:
        await ModerationHandler(store, service).run(DOUBTFUL, FIRST)
    assert await store.get("c1") is None
    assert_no_key(raised.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
async def test_a_request_that_a_service_refuses_is_not_retried(
    store: ModerationRepository, service: ModerationService, server: Server, status: int
) -> None:
    server.answers[PATH] = Answer.json({"error": {"message": f"Incorrect API key: {KEY}"}}, status)
    with pytest.raises(PermanentError, match=f"{status} from the moderation service") as raised:
        await ModerationHandler(store, service).run(DOUBTFUL, FIRST)
    assert_no_key(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b'{"results": []}',
        b'{"results": [{}]}',
        b'{"results": [{"categories": []}]}',
        b'{"results": [{"categories": {}}]}',
        b'{"results": "x"}',
        b"[" * 100_000,
    ],
)
async def test_garbage_decides_nothing(
    store: ModerationRepository, service: ModerationService, server: Server, body: bytes
) -> None:
    server.answers[PATH] = Answer(200, body)
    with pytest.raises(ServiceUnavailableError, match="cannot be read"):
        await ModerationHandler(store, service).run(DOUBTFUL, FIRST)
    assert await store.get("c1") is None


async def test_a_service_that_hangs_or_is_down_is_retried(
    store: ModerationRepository, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moderation, "_TIMEOUT_SECONDS", 0.2)
    service = ModerationService(server.url(PATH), KEY)
    handler = ModerationHandler(store, service)
    server.answers[PATH] = hang
    with pytest.raises(ServiceUnavailableError, match="ReadTimeout") as hung:
        await handler.run(DOUBTFUL, FIRST)
    await server.stop()
    with pytest.raises(ServiceUnavailableError, match="ConnectError") as refused:
        await handler.run(DOUBTFUL, FIRST)
    await handler.close()
    assert_no_key(hung.value)
    assert_no_key(refused.value)


async def test_an_answer_without_an_end_is_cut_off(
    store: ModerationRepository, service: ModerationService, server: Server
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 100_000

    server.answers[PATH] = Answer(200, more=endless())
    with pytest.raises(PermanentError, match="larger than 1,000,000 bytes"):
        await ModerationHandler(store, service).run(DOUBTFUL, FIRST)


def assert_no_key(error: BaseException) -> None:
    assert KEY not in "".join(traceback.format_exception(error))


async def test_the_event_loop_goes_on_while_a_long_text_is_judged(store: ModerationRepository) -> None:
    handler = ModerationHandler(store)
    await decide(handler, text="call 912 345 678")  # the libraries are loaded
    async with Ticker() as ticker:
        await decide(handler, text="1 2 3 4 5 6 7 8 9 " * 270)
    assert ticker.took > 0.05, "a text that takes its time"
    assert ticker.worst < ticker.took / 2


async def test_from_a_stock_producer_to_a_decision(
    make_bench: MakeBench, store: ModerationRepository
) -> None:
    bench = make_bench(name="moderation-review", function="review_content", concurrency=10, timeout=120)
    await bench.start(ModerationHandler(store).as_function())
    result = await bench.stock.apply("review_content", timeout=15, content_id="c7", text="so t.me/bags")
    assert result == {
        "content_id": "c7",
        "decision": "needs_human",
        "reasons": ["a link"],
        "decided_by": "rules",
    }
    assert await store.get("c7") == Decision("c7", "needs_human", ["a link"], "rules")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"content_id": "c1"}, "exactly one of text and image is needed"),
        ({"content_id": "c1", "text": "x", "image": "y"}, "exactly one of text and image is needed"),
        ({"content_id": "c1", "text": "x" * 5001}, "text: String should have at most 5000 characters"),
        ({"text": "x"}, "content_id: Field required"),
    ],
)
async def test_a_payload_that_cannot_work_is_a_dead_letter_on_its_first_attempt(
    make_bench: MakeBench, store: ModerationRepository, arguments: dict[str, Any], message: str
) -> None:
    bench = make_bench(name="moderation-review", function="review_content", concurrency=10, timeout=120)
    await bench.start(ModerationHandler(store).as_function())
    await bench.stock.enqueue("review_content", **arguments)
    await eventually(bench.letters.count, what="the dead letter")
    (letter,) = (await bench.letters.page()).items
    assert (letter.attempts, letter.error_type) == (1, "InvalidJobError")
    assert message in letter.error_message
