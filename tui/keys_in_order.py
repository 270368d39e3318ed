"""Keys that arrive together are handled one after the other, as if there were time between them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from textual import events
from textual.app import App, ScreenStackError
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Input, TextArea
from textual.worker import Worker

_MAX_WAIT_SECONDS = 2.0
"""After which a key that arrives has the next one handled, though a widget still works on the one before."""
_CHECKS, _CHECK_SECONDS = 10, 0.01
"""How often, and after how many seconds, it checks whether the work that a key has begun opens a dialog."""


class KeysInOrder(App[int]):
    """A slow connection delivers several keys at once.

    Textual gives each to the focused widget at once, and finds out what a key does when it has come back.  So
    in ``/queue`` the letters went to the list, where q quits, before ``/`` had opened the filter; and a field
    took a digit before the backspace that was typed ahead of it.  Here a key waits until the one before has
    been handled, and what that has opened is focused.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting_keys: deque[events.Key | events.Paste] = deque()
        self._key_since: float | None = None
        """When the key that is being handled arrived, by the monotonic clock; None if none is."""
        self._key_screen: Screen[Any] | None = None
        """The one that was shown when it arrived."""
        self._workers_before: set[Worker[Any]] = set()

    async def on_event(self, event: events.Event) -> None:
        """Handle an event; a key or a paste when its turn has come."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._waiting_keys.append(event)
        since = self._key_since
        if since is None or time.monotonic() - since >= _MAX_WAIT_SECONDS:
            await self._handle_next_key()

    async def _handle_next_key(self) -> None:
        self._key_since = None
        while self._waiting_keys and self._key_since is None:
            await self._handle_key(self._waiting_keys.popleft())

    async def _handle_key(self, event: events.Key | events.Paste) -> None:
        field, self._workers_before = self.focused, set(self.workers)
        await super().on_event(event)
        if isinstance(field, Input | TextArea) and not (
            isinstance(event, events.Key) and not event.is_printable
        ):
            return  # text of a field stays in order by itself
        with suppress(ScreenStackError):  # it may have ended the program
            self._key_screen = self.screen
            self._key_since = time.monotonic()
            path = (self.focused or self.screen).ancestors_with_self
            check = partial(self._check_for_new_screen, self._key_since, _CHECKS)
            # The second time it is behind the messages that the key has caused, such as that a field is sent.
            self._follow([*path, *path], check)

    def _follow(self, path: Sequence[MessagePump], go_on: Callable[[], Awaitable[None]]) -> None:
        """Follow a key up to the app: behind it in the queue of each node that still lives.

        Then go on when what the key has done is on the screen.
        """
        for number, node in enumerate(path, start=1):
            if node.post_message(events.Callback(partial(self._follow, path[number:], go_on))):
                return
        self.call_after_refresh(go_on)

    async def _check_for_new_screen(self, since: float, checks: int) -> None:
        """Let a screen that the key of ``since`` has opened get its focus, before it gets keys."""
        if since != self._key_since:  # it was not waited for
            return
        if self.screen is not self._key_screen:
            self._key_screen = self.screen
            self._follow(self.screen.ancestors_with_self, partial(self._check_for_new_screen, since, 0))
        elif checks and self._waiting_keys and self._has_begun_work():
            self.set_timer(_CHECK_SECONDS, partial(self._check_for_new_screen, since, checks - 1))
        else:
            await self._handle_next_key()

    def _has_begun_work(self) -> bool:
        return any(not worker.is_finished for worker in set(self.workers) - self._workers_before)
