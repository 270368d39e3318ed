"""The frame recorded with an error: the innermost one of a handler."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.failures import HERE, Shop, chained, fail, nested, raised
from workers.engine.fingerprint import handler_frame
from workers.engine.runner import JobTimeoutError, parse_job
from workers.engine.settlement import LeasedJob
from workers.errors import InvalidJobError
from workers.handlers.base import validate_payload
from workers.handlers.color.handler import ColorPayload
from workers.handlers.moderation.handler import ModerationService
from workers.handlers.weather.handler import OpenWeather


async def raised_by(awaitable: Awaitable[Any]) -> BaseException:
    try:
        await awaitable
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("call", "frame"),
    [
        (Shop().sell, "fail"),
        (Shop.read, "Shop.read"),
        (Shop().sell_twice, "Shop.sell_twice"),
        (nested(), "nested.<locals>.inner"),
        (chained, "chained"),
        (functools.partial(functools.reduce, fail, [1, 2]), "fail"),
        (functools.partial(json.loads, "[{}]", object_hook=fail), "fail"),
    ],
)
def test_the_innermost_own_frame(call: Callable[[], Any], frame: str) -> None:
    assert handler_frame(raised(call)) == f"{HERE}:{frame}"


@pytest.mark.parametrize(
    ("call", "frame"),
    [
        (lambda: Shop().deliver(), "Shop.deliver"),
        (lambda: asyncio.wait_for(Shop().deliver(), 5), "Shop.deliver"),
        (lambda: asyncio.gather(Shop().deliver()), "Shop.deliver"),
        (lambda: asyncio.to_thread(Shop().sell), "fail"),
        (lambda: Shop().hang(), "Shop.hang"),
        (lambda: Shop().deliver_in_group(), "Shop.deliver_in_group"),
    ],
)
async def test_the_innermost_own_frame_of_what_is_awaited(
    call: Callable[[], Awaitable[Any]], frame: str
) -> None:
    assert handler_frame(await raised_by(call())) == f"{HERE}:{frame}"


def run(source: str, module: Any, file: Any, compiled: str | None = None) -> str | None:
    """The frame of an error raised by a function of another module."""
    space: dict[str, Any] = {"__name__": module, "__file__": file}
    exec(compile(source, compiled or str(file), "exec"), space)
    error = raised(space["go"])
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # without this file's own
    return handler_frame(error)


GO = "def go():\n    raise ValueError\n"
SITE = "/opt/venv/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("module", "file", "found"),
    [
        ("shop.jobs", "/srv/shop/jobs.py", True),
        ("__main__", "/srv/shop/__main__.py", True),
        ("workers.handlers.alert", f"{SITE}/workers/handlers/alert.py", True),
        ("workers.handlers.http_client", "/srv/main/workers/handlers/http_client.py", False),
        ("workers.handlers.base", "/srv/main/workers/handlers/base.py", False),
        ("workers.engine.runner", "/srv/main/workers/engine/runner.py", False),
        ("workers.handlers.process_pool", f"{SITE}/workers/handlers/process_pool.py", False),
        ("storage.repositories.palettes", "/srv/main/storage/repositories/palettes.py", False),
        ("httpx._client", f"{SITE}/httpx/_client.py", False),
        ("yaml", "/usr/lib/python3/dist-packages/yaml/__init__.py", False),
        ("yaml", r"C:\venv\Lib\site-packages\yaml\__init__.py", False),
        ("asyncio.tasks", "/usr/lib/python3.11/asyncio/tasks.py", False),
        (None, "/srv/shop/jobs.py", False),
    ],
)
def test_whose_a_frame_is(module: str | None, file: str, found: bool) -> None:
    assert run(GO, module, file) == (f"{module}:go" if found else None)


def test_code_without_a_file_of_its_own_is_nobodys() -> None:
    assert run(GO, "shop", "/srv/shop.py", "<string>") is None  # a dataclass's __init__, say
    assert run(GO, "asyncpg.protocol", f"{SITE}/asyncpg/protocol.so", "asyncpg/protocol.pyx") is None
    assert run(GO, "shop", None, "/srv/shop.py") == "shop:go"


def test_lines_and_folders_do_not_change_the_fingerprint() -> None:
    assert run(GO, "shop", "/a/shop.py") == run("\n\nimport os\n" + GO, "shop", "/b/shop.py") == "shop:go"


def test_a_built_in_handler_has_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    async def exchange(*_: Any, **__: Any) -> tuple[int, bytes]:
        return 503, b""

    monkeypatch.setattr("workers.handlers.http_client.request_limited", exchange)
    error = raised(lambda: asyncio.run(OpenWeather("key").fetch(1.0, 2.0)))
    assert handler_frame(error) == "workers.handlers.weather:_read"
    service: Any = ModerationService("http://a", None)
    error = raised(lambda: asyncio.run(service.flagged(ColorPayload(item_id="a", image="b"))))
    assert handler_frame(error) == "workers.handlers.moderation:ModerationService.flagged"


def test_what_happened_nowhere_in_a_handler_has_no_frame() -> None:
    assert handler_frame(ValueError("never raised")) is None
    taken = LeasedJob("saq:job:color-extraction:k", b"w:1:2", b"{")
    for call in (lambda: validate_payload(ColorPayload, {}), lambda: parse_job(None, taken)):  # type: ignore[arg-type]
        error = raised(call)
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
        assert isinstance(error, InvalidJobError)
        assert handler_frame(error) is None


def test_a_timeout_has_no_frame() -> None:
    cut = raised(fail)
    assert handler_frame(cut) is not None
    assert handler_frame(JobTimeoutError("late").with_traceback(cut.__traceback__)) is None


def test_an_error_that_recurses_has_its_frame() -> None:
    def deeper() -> None:
        deeper()

    assert handler_frame(raised(deeper)) == f"{__name__}:{deeper.__qualname__}"
