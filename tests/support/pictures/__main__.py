"""``make screenshots``: servers of its own, two processes, jobs that hang, and a picture of each view."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from app.process import demo
from app.process.composition import Appliance, open_appliance
from app.settings import load
from storage.redis.client import make_client
from tests.support.pictures import past, services
from tests.support.prometheus import PROJECT
from tests.support.waiting import eventually
from workers.engine.policy import ALERT, COLOR, MODERATION, WEATHER
from workers.operations.operations import NewJob

IMAGES = PROJECT / "docs" / "images"
PROGRAM = Path(sys.executable).with_name("couturecast-tui")
SIZE = "160x48"
PICTURES: tuple[tuple[str, Sequence[str], str], ...] = (
    ("overview", ("--view", "overview"), "stalled"),
    ("overview-80x24", ("--view", "overview", "--size", "80x24"), "stalled"),
    ("overview-light", ("--view", "overview", "--theme", "couturecast-light"), "stalled"),
    ("queue", ("--queue", COLOR), "stalled"),
    ("jobs", ("--view", "jobs"), "stalled"),
    ("letters", ("--view", "letters"), ""),
    ("workers", ("--view", "workers"), ""),
    ("cache", ("--view", "cache"), ""),
    ("events", ("--view", "events"), ""),
)
"""Name of the file, options, and what its verdict must be: it is taken again until that is so."""
_VERDICT_Y = "68.8"
"""Vertical position of the third line in a picture, which has the words."""
_STUCK_JOBS = 25
"""Five run at a time, for 25 s in each of four attempts: enough for all pictures."""
_TIMEOUT_SECONDS = 600.0


async def make_pictures(names: Sequence[str]) -> None:
    """Make the pictures of these names, or all."""
    random.seed(7)
    with tempfile.TemporaryDirectory(prefix="couturecast-") as folder:
        environment = _environment(Path(folder), services.serve())
        os.environ.update(environment)
        settings, policies = load()
        async with open_appliance(settings, policies) as appliance:
            await _write_past(appliance)
            async with _workers(2), _feed(appliance):
                await _until_all_is_wrong(appliance)
                for name, options, shows in PICTURES:
                    if not names or name in names:
                        await _take(name, options, shows)


def _environment(folder: Path, url: str) -> dict[str, str]:
    return {
        "COUTURECAST_DATA_DIR": str(folder),
        "COUTURECAST_ENVIRONMENT": "prod",
        "COUTURECAST_RELEASE": past.RELEASE,
        "COUTURECAST_ALLOW_PRIVATE_ADDRESSES": "1",
        "COUTURECAST_IMAGE_DIRS": str(services.images()),
        "COUTURECAST_LOG_LEVEL": "error",
        "COUTURECAST_HTTP": "none",
        "COUTURECAST_ALERT_SLOW": "1000",  # of this machine, not of the queues
        "OPENWEATHER_API_KEY": "0" * 32,
        "OPENWEATHER_BASE_URL": url,
        "IMAGES_URL": url,
        "TZ": "UTC",
    }


async def _write_past(appliance: Appliance) -> None:
    now = time.time()
    client = make_client(appliance.redis_url)
    try:
        await past.write_history(client, now)
        await past.write_pause(client, now)
    finally:
        await client.aclose()
    await demo.seed(appliance)
    await past.write_events(appliance.database, now)
    await past.write_letters(appliance.database, now)
    weather = [demo.sample_weather(number) for number in range(past.BACKLOG)]
    await appliance.enqueueing.enqueue_many(WEATHER, [NewJob(data) for data in weather])
    texts = [demo.sample_text(number) for number in range(7)]
    await appliance.enqueueing.enqueue_many(MODERATION, [NewJob(data) for data in texts])


@contextlib.asynccontextmanager
async def _workers(number: int) -> AsyncIterator[None]:
    processes = [
        await asyncio.create_subprocess_exec(
            PROGRAM, "--no-ui", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        for _ in range(number)
    ]
    try:
        for process in processes:
            if process.stdout is None or await process.stdout.readline() != b"ready\n":
                raise RuntimeError("a worker process did not start")
        yield
    finally:
        for process in processes:
            for _ in range(2):  # a drain, without waiting for jobs that hang
                process.send_signal(signal.SIGINT)
        await asyncio.gather(*(process.wait() for process in processes))


@contextlib.asynccontextmanager
async def _feed(appliance: Appliance) -> AsyncIterator[None]:
    running = [asyncio.create_task(demo.run_readers(appliance)), asyncio.create_task(_enqueue(appliance))]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _enqueue(appliance: Appliance) -> None:
    """Alerts and weather as they come; once some colours were found, pictures that never arrive."""
    names = sorted(path.name for path in services.images().iterdir() if path.suffix in (".jpg", ".png"))
    enqueue = appliance.enqueueing.enqueue_many
    for number in range(24):
        await enqueue(COLOR, [NewJob({"item_id": f"coat-{number}", "image": names[number % len(names)]})])
        await asyncio.sleep(0.4)
    url = os.environ["IMAGES_URL"]
    stuck = [{"item_id": f"dress-{n}", "image": f"{url}/uploads/dress-{n}.jpg"} for n in range(_STUCK_JOBS)]
    for data in stuck:
        await enqueue(COLOR, [NewJob(data, data["item_id"])])
    for number in range(1_000_000):
        await enqueue(ALERT, [NewJob(demo.sample_alert(number)) for _ in range(random.randrange(4))])
        if number % 2:
            await enqueue(WEATHER, [NewJob(demo.sample_weather(number))])
        await asyncio.sleep(0.5)


async def _until_all_is_wrong(appliance: Appliance) -> None:
    async def is_wrong() -> bool:
        alerts = (await appliance.operations.snapshot()).alerts
        return {"backlog", "stalled"} <= {alert.name for alert in alerts}

    await eventually(is_wrong, within=_TIMEOUT_SECONDS, what="a queue is full and another one stalled")


async def _take(name: str, options: Sequence[str], shows: str) -> None:
    file = IMAGES / f"{name}.svg"
    size = () if "--size" in options else ("--size", SIZE)
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        picture = b""
        while not _is_good(picture.decode(), shows):
            taking = await asyncio.create_subprocess_exec(
                PROGRAM, "screenshot", "-", *options, *size, stdout=PIPE
            )
            picture, _ = await taking.communicate()
    file.write_bytes(picture)
    print(file.relative_to(PROJECT))  # noqa: T201


def _is_good(picture: str, verdict: str) -> bool:
    """Whether the third line has this word, and no server was slow: that of a busy machine."""
    has_verdict = re.search(rf'y="{_VERDICT_Y}"[^>]*>{verdict}', picture) is not None
    return has_verdict and "unavailable" not in picture


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    asyncio.run(make_pictures(sys.argv[1:]))
