"""Notifications of the whole program: what workers send, how they start and end, what notify-test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.program import Program
from tests.support.waiting import eventually
from tests.support.webhook import Webhook

SECRETS = ("s3cr3t-pass", "t0ken-path")
URLS = "COUTURECAST_NOTIFY_URLS"


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    webhook = Webhook()
    await webhook.start()
    yield webhook
    await webhook.close()


@pytest.mark.slow
async def test_notify_test_sends_one_message_to_each_and_fails_if_one_does_not_take_it(
    program: Program, webhook: Webhook
) -> None:
    done = await asyncio.to_thread(program.run, "notify-test", **{URLS: webhook.url})
    assert (done.code, done.out) == (0, "1 JSON: sent\n")
    assert webhook.titles == ["CoutureCast local: test"]
    urls = {URLS: f"{webhook.url} json://ann:s3cr3t-pass@127.0.0.1:1/t0ken-path"}
    done = await asyncio.to_thread(program.run, "notify-test", "--json", **urls)
    assert (done.code, done.err) == (1, "")
    assert done.json["items"] == [
        {"service": "1 JSON", "problem": None},
        {"service": "2 JSON", "problem": "not reached, or it refused"},
    ]
    webhook.behaviour = "500"
    done = await asyncio.to_thread(program.run, "notify-test", **{URLS: webhook.url})
    assert (done.code, done.out) == (1, "1 JSON: answered with HTTP status 500\n")


def test_without_urls_there_is_nothing_to_try(program: Program) -> None:
    done = program.run("notify-test")
    assert done.code == 2
    assert done.errors == ["error: COUTURECAST_NOTIFY_URLS: is not set: see docs/notifications.md"]


@pytest.mark.slow
def test_workers_refuse_a_url_that_cannot_be_used_in_one_line_and_the_doctor_finds_it(
    program: Program,
) -> None:
    urls = {URLS: "nothing://t0ken-path"}
    done = program.run("--no-ui", **urls)
    assert done.code == 2
    (error,) = done.errors
    assert error.startswith("error: COUTURECAST_NOTIFY_URLS: URL 1 cannot be used: ")
    report = program.run("doctor", "--json", **urls)
    (found,) = (item for item in report.json["items"] if item["state"] == "wrong")
    assert (found["group"], found["check"]) == ("settings", "notifications")
    assert not [secret for secret in SECRETS if secret in done.out + done.err + report.out + report.err]


@pytest.mark.slow
async def test_two_processes_send_one_message_about_queues_without_workers(
    program: Program, webhook: Webhook
) -> None:
    environment = {URLS: webhook.url, "COUTURECAST_LOG_LEVEL": "debug", "COUTURECAST_ENVIRONMENT": "staging"}
    processes = [await program.start("--queues", "weather-ingestion", **environment) for _ in range(2)]
    await eventually(lambda: bool(webhook.received), within=90)
    await asyncio.sleep(15)  # a second one would come with the next passes
    assert webhook.titles == ["CoutureCast staging: critical, 3 alerts"]
    assert sum("no worker" in line for line in webhook.lines) == 3
    for process in processes:
        assert await process.stop() == 0
        assert not [secret for secret in SECRETS if secret in process.err]


@pytest.mark.slow
async def test_a_service_that_hangs_does_not_keep_the_process_from_its_end(
    program: Program, webhook: Webhook
) -> None:
    webhook.behaviour = "hang"
    process = await program.start("--queues", "weather-ingestion", **{URLS: webhook.url})
    await eventually(lambda: bool(webhook.received), within=90)
    assert await process.stop() == 0
