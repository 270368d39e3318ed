"""Keys that arrive together are handled one after the other, as if there were time between them."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any

from textual import events
from textual.app import App, ScreenStackError
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea
from textual.worker import Worker

_MAX_WAIT_SECONDS = 2.0
"""After which the next key is handled although the one before has not come back."""
_CHECKS, _CHECK_SECONDS = 10, 0.01
"""How often, and after how many seconds, it checks whether the work that a key has begun opens a dialog."""


class KeyHandled(Message, namespace="keys_in_order"):
    """Follows a key on its way from the focused widget up to the app, and so arrives after it."""


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
        self._key_target: Widget | None = None
        """The one that had the focus when it had arrived."""

    async def on_event(self, event: events.Event) -> None:
        """Handle an event; a key or a paste when its turn has come."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._key_since is None or (not self._waiting_keys and self._is_lost()):
            await self._handle_key(event)
        else:
            self._waiting_keys.append(event)
            if len(self._waiting_keys) == 1:
                self.set_timer(_CHECK_SECONDS, self._go_on)

    async def _handle_key(self, event: events.Key | events.Paste) -> None:
        field, self._workers_before = self.focused, set(self.workers)
        await super().on_event(event)
        if isinstance(field, Input | TextArea) and not (
            isinstance(event, events.Key) and not event.is_printable
        ):
            return  # text of a field stays in order by itself
        with suppress(ScreenStackError):  # it may have ended the program
            self._key_screen = self.screen
            self._key_target = self.focused or self.screen
            self._key_since = time.monotonic() if self._key_target.post_message(KeyHandled()) else None

    def on_keys_in_order_key_handled(self, message: Message) -> None:
        """Go on when what the key has done is on the screen, and a screen that it opened has its focus."""
        message.stop()
        self.call_after_refresh(self._check_for_new_screen)

    async def _check_for_new_screen(self, checks: int = _CHECKS) -> None:
        """Let a screen that the key has opened get its focus, before it gets keys."""
        if self.screen is not self._key_screen:
            self._key_screen = self.screen
            self._key_screen.post_message(KeyHandled())
        elif checks and self._waiting_keys and self._has_begun_work():
            self.set_timer(_CHECK_SECONDS, partial(self._check_for_new_screen, checks - 1))
        else:
            await self._handle_next_key()

    def _has_begun_work(self) -> bool:
        return any(not worker.is_finished for worker in set(self.workers) - self._workers_before)

    def _is_lost(self) -> bool:
        """Return whether the key does not come back: its widget is removed, as those of a closed dialog."""
        target = self._key_target
        is_late = self._key_since is not None and time.monotonic() - self._key_since >= _MAX_WAIT_SECONDS
        return is_late or target is None or not target.is_attached or not target.is_running

    async def _go_on(self) -> None:
        """Go on if a key is lost."""
        if self._waiting_keys and self._is_lost():
            await self._handle_next_key()
        if self._waiting_keys:
            self.set_timer(_CHECK_SECONDS, self._go_on)

    async def _handle_next_key(self) -> None:
        self._key_since = None
        while self._waiting_keys and self._key_since is None:
            await self._handle_key(self._waiting_keys.popleft())
