"""The services that send messages: made of their URLs by apprise, each try in a thread of its own.

No part of a URL leaves this module: each may hold a password or a token, anywhere.  Both apprise and the
libraries below it log URLs, so their logs are off.  It is imported only if there is a URL: its 200 services
take half a second and 25 MB.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from workers.errors import NotifyUrlError
from workers.notifications import THREAD_NAME
from workers.notifications.messages import Message, plain

MAX_URLS = 20

Outcome = Literal["sent", "failed", "dropped"]

_SEND_SECONDS = 10.0
"""Timeout of one try."""
_RETRY_SECONDS = (2.0, 10.0, 60.0)
"""Between the tries of one message, by one service."""
_DELIVERY_SECONDS = 150.0
"""Timeout of all tries of one message, and of the wait for those before it; shorter than its claim."""
_MAX_WAITING = 10
"""Messages of one service that wait or are being sent; a further one is dropped."""
_SEPARATOR = re.compile(r"\s+|\s*[,;]\s*(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_STATUS = re.compile(r"\berror=(\d{3})\b")


class NotificationService:
    """One service.  ``label`` is its place among the URLs, with its kind: ``2 Slack``."""

    def __init__(self, label: str, plugin: Any, *, timeout: float, retry_seconds: Sequence[float]) -> None:
        self.label = label
        self._plugin = plugin
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._try: asyncio.Future[str] | None = None
        """The last one: its thread may not have ended."""

    async def deliver(self, message: Message) -> tuple[Outcome, str]:
        """Send after the messages before it, with retries; the outcome, and the problem if there is one."""
        if self._waiting >= _MAX_WAITING:
            return "dropped", f"{_MAX_WAITING} messages wait"
        self._waiting += 1
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS), self._lock:
                problem = await self.send(message)
                for delay in self._retry_seconds:
                    if not problem:
                        return "sent", ""
                    await asyncio.sleep(delay)
                    problem = await self.send(message)
        except TimeoutError:
            problem = f"not sent within {_DELIVERY_SECONDS:g} s"
        finally:
            self._waiting -= 1
        return ("failed" if problem else "sent"), problem

    async def send(self, message: Message) -> str:
        """Try once; the problem, or an empty text.  While a thread hangs there is no second one."""
        if self._try is not None and not self._try.done():
            await asyncio.wait({self._try}, timeout=self._timeout)
            if not self._try.done():
                return "the try before it still hangs"
        self._try = _run_in_thread(self._plugin, message)
        done, _ = await asyncio.wait({self._try}, timeout=self._timeout)
        return self._try.result() if done else f"no answer within {self._timeout:g} s"


def load_services(
    urls: str, *, timeout: float = _SEND_SECONDS, retry_seconds: Sequence[float] = _RETRY_SECONDS
) -> list[NotificationService]:
    """Make the services of URLs separated by spaces.  Raises NotifyUrlError."""
    parts = [part for part in _SEPARATOR.split(urls.strip()) if part]
    if not parts:
        raise NotifyUrlError("has no URL", fix="use for instance mailto://user:password@example.com")
    if len(parts) > MAX_URLS:
        raise NotifyUrlError(f"has {len(parts)} URLs", fix=f"use at most {MAX_URLS}")
    if importlib.util.find_spec("apprise") is None:
        raise NotifyUrlError(
            "notifications need apprise, which is not installed",
            fix="pip install 'couturecast-tui[notify]'",
        )
    services = []
    for number, url in enumerate(parts, 1):
        plugin = _load_plugin(number, url)
        label = f"{number} {plain(str(plugin.service_name))}"
        services.append(NotificationService(label, plugin, timeout=timeout, retry_seconds=retry_seconds))
    return services


def _load_plugin(number: int, url: str) -> Any:
    plugin: Any = None
    with suppress(Exception):  # its text may quote the URL
        plugin = _import_apprise().Apprise.instantiate(url)
    if plugin is None:
        raise NotifyUrlError(
            f"URL {number} cannot be used",
            fix="write it as https://appriseit.com/services/ has it, with %20 for a space and %40 for @",
        )
    return plugin


def _import_apprise() -> Any:
    logger = logging.getLogger("apprise")
    logger.propagate = False  # its handlers, if any, are `_LastWarning`
    logger.setLevel(logging.WARNING)
    import apprise

    logger.handlers[:] = [_last_warning]
    return apprise


class _LastWarning(logging.Handler):
    """Keeps the HTTP status of the last warning in each thread, and nothing else of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            status = _STATUS.search(record.getMessage())
            self._local.status = status and status[1]

    @property
    def status(self) -> str | None:
        """The HTTP status in this thread, if the warning had one."""
        value: str | None = getattr(self._local, "status", None)
        return value


_last_warning = _LastWarning()


def _run_in_thread(plugin: Any, message: Message) -> asyncio.Future[str]:
    """Send in a daemon thread, which no end of the process waits for."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()

    def finish(problem: str) -> None:
        if not result.done():
            result.set_result(problem)

    def run() -> None:
        problem = _send(plugin, message)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, problem)

    threading.Thread(target=run, name=THREAD_NAME, daemon=True).start()
    return result


def _send(plugin: Any, message: Message) -> str:
    """Send; why it failed, or an empty text."""
    try:
        is_sent = plugin.notify(
            title=message.title, body=message.body, notify_type=message.tone, body_format="text"
        )
    except Exception as error:  # its text may quote the URL
        return f"failed by {type(error).__name__}"
    if is_sent:
        return ""
    status = _last_warning.status
    return f"answered with HTTP status {status}" if status else "not reached, or it refused"
