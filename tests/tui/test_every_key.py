"""Each key that a view or a dialog shows is answered, in each state in which an operator may meet it.

The keys are those of the bindings, so that a new one is pressed here without being named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest
from textual.message import Message
from textual.pilot import Pilot, WaitForScreenTimeout
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from tests.support.dashboards import SIZES
from tests.support.fake_cache import entry
from tests.support.fake_jobs import JOBS
from tests.support.fake_letters import letter
from tests.support.fake_operations import CannedOperations
from tests.support.fake_states import STATES
from tests.support.fake_workers import RUNNING
from tui.app import Dashboard
from tui.dialogs.alerts import RunbookDialog
from tui.dialogs.confirm import Confirm
from tui.dialogs.edit_payload import EditPayloadDialog
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.keymap import is_listed
from tui.navigation import (
    OpenCacheEntry,
    OpenJob,
    OpenLetter,
    OpenPlan,
    OpenPlanLetters,
    OpenPlans,
    OpenQueue,
    OpenWorker,
)
from tui.state import RememberedState
from tui.views import VIEWS
from tui.widgets.filter_bar import FilterBar
from workers.operations.operations import ALL_DEAD, Operations

_ANSWER_SECONDS = 20.0
"""After which a key is dead; those that are not answer at once."""
_UNSEEN = {
    "app.redraw": "paints the terminal again, with the same",
    "cache.reload": "reads again what is still the same",
    "jobs.reload": "reads again what is still the same",
    "list.reload": "reads again what is still the same",
    "plans.reload": "reads again what is still the same",
    "queues.reload": "reads again what is still the same",
    "workers.reload": "reads again what is still the same",
}
"""Ids of keys whose effect cannot be seen here, and why."""


@dataclass(frozen=True)
class Place:
    """A view, and the dialog or page opened on it, in which keys are pressed."""

    name: str
    view: str
    open: Callable[[Dashboard], Message | Screen[Any] | str | None] = lambda app: None


PLACES = (
    *(Place(view.name, view.name) for view in VIEWS),
    Place("queue", "overview", lambda app: OpenQueue("color-extraction")),
    Place("letter", "letters", lambda app: OpenLetter(letter(2))),
    Place("plans", "letters", lambda app: OpenPlans()),
    Place("plan", "letters", lambda app: OpenPlan(1)),
    Place("plan letters", "letters", lambda app: OpenPlanLetters(1)),
    Place("replay", "letters", lambda app: ReplayDialog(app.session, ALL_DEAD, "all")),
    Place("edit", "letters", lambda app: EditPayloadDialog(app.session, letter(2))),
    Place("job", "jobs", lambda app: OpenJob(JOBS[0])),
    Place("worker", "workers", lambda app: OpenWorker(RUNNING.id)),
    Place("entry", "cache", lambda app: OpenCacheEntry(entry("u0:lisboa:2026-03-01T12"))),
    Place("alerts", "overview", lambda app: "alerts"),
    Place("runbook", "overview", lambda app: RunbookDialog("backlog")),
    Place("help", "overview", lambda app: "help"),
    Place("jump", "overview", lambda app: "jump"),
    Place("confirm", "overview", lambda app: Confirm("Sure?", "It happens.", "Do")),
    Place("prompt", "overview", lambda app: Prompt("Why?", "It happens.", "do")),
)


@dataclass(frozen=True)
class Press:
    """A key to be pressed while a widget has the focus, by its id."""

    focus: str | None
    key: str
    id: str | None


class Walker:
    """Presses the keys of one dashboard, one after another."""

    def __init__(self, app: Dashboard, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot
        self.closed = False
        self.placed: tuple[Place, Screen[Any]] | None = None
        app.exit = self._note_exit  # type: ignore[method-assign]

    def _note_exit(self, *_: Any, **__: Any) -> None:
        self.closed = True

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while not condition():  # noqa: ASYNC110 - many things make it true
                await asyncio.sleep(0.005)

    async def calm(self) -> None:
        """Wait until nothing is being read or painted, except by workers that wait for a dialog."""
        quiet = 0
        async with asyncio.timeout(_ANSWER_SECONDS):
            while quiet < 2:
                pumps = (self.app, *self.app.screen_stack, *self.app.screen.walk_children())
                busy = any(pump.message_queue_size or pump._next_callbacks for pump in pumps)
                running = (worker for worker in self.app.workers if worker.is_running)
                busy = busy or not all(self._waits(worker) for worker in running)
                quiet = 0 if busy else quiet + 1
                await asyncio.sleep(0.005)

    def _waits(self, worker: Any) -> bool:
        """Whether a worker may be waiting for the dialog that is open."""
        asks = worker.group == "action" or worker.name.startswith("action_")
        return asks and len(self.app.screen_stack) > 1

    async def renew(self, view: str) -> None:
        """Make the screen of a view anew: a key has changed what it lists."""
        self.app.session.state = RememberedState(None)
        other = next(known.name for known in VIEWS if known.name != view)
        await self.app.switch_mode(other)
        await self.app.remove_mode(view)
        screen = next(known.screen for known in VIEWS if known.name == view)
        self.app.add_mode(view, partial(screen, self.app.session))

    async def go(self, place: Place, *, renewed: bool = False) -> None:
        """Open a place as it is when an operator opens it."""
        bars = self.app.screen.query(FilterBar)
        here = (place, self.app.screen)
        if here == self.placed and not renewed and not any(bar.is_open for bar in bars):
            return
        if renewed:
            self.app.action_view(self.app.current_mode)  # what waits for a dialog goes on
            await self.until(lambda: len(self.app.screen_stack) == 1)
            await self.renew(place.view)
        self.app.action_view(place.view)
        await self.until(lambda: len(self.app.screen_stack) == 1)
        await self.calm()
        for bar in self.app.screen.query(FilterBar):
            if bar.is_open:
                bar.action_cancel()
                await self.calm()
        opened = place.open(self.app)
        if opened is None:
            pass
        elif isinstance(opened, Message):
            self.app.post_message(opened)
        elif isinstance(opened, Screen):
            self.app.push_screen(opened)
        else:
            await self.app.run_action(opened)
        if opened is not None:
            await self.until(lambda: len(self.app.screen_stack) > 1)
            await self.calm()
        self.placed = (place, self.app.screen)

    def focusable(self) -> dict[str, Widget]:
        chain = self.app.screen.focus_chain
        return {widget.id: widget for widget in chain if widget.id is not None}

    def presses(self, *, of_all: bool) -> Iterator[Press]:
        """The keys that help and palette list here, each with the focus that it needs."""
        screen, done = self.app.screen, set()
        focusable = self.focusable()
        for name in focusable or (None,):
            screen.set_focus(None if name is None else focusable[name])
            for key, active in screen.active_bindings.items():
                where = (active.node, key) if active.node is not self.app else (self.app, key)
                if is_listed(active) and where not in done and (of_all or active.node is not self.app):
                    done.add(where)
                    yield Press(name, key, active.binding.id)

    def signature(self) -> tuple[object, ...]:
        """Return the focusable widgets and the keys of the screen, to see whether a key has changed them."""
        active = self.app.screen.active_bindings.values()
        own = {one.binding.key for one in active if one.node is self.app.screen and is_listed(one)}
        return tuple(self.focusable()), frozenset(own)

    async def answers(self, press: Press) -> bool:
        """Whether something that an operator sees follows a key."""
        focused = self.app.screen.focused
        if press.focus is not None and (focused is None or focused.id != press.focus):
            self.app.screen.set_focus(self.focusable().get(press.focus))
        for field in (*self.app.screen.query(Input), *self.app.screen.query(TextArea)):
            field.cursor_blink = False
        self.app.clear_notifications()
        await self.calm()
        before = self.shot()
        with suppress(WaitForScreenTimeout):  # a slow machine: what follows waits again
            await self.pilot.press(press.key)
        with suppress(TimeoutError):
            await self.until(lambda: self.closed or self.shot() != before)
            await self.calm()
            return True
        return False

    def shot(self) -> tuple[object, ...]:
        """All that can be seen."""
        screen = self.app.screen
        strips = screen._compositor.render_strips()
        notes = [note.message for note in self.app._notifications]
        return (len(self.app.screen_stack), type(screen), screen.focused, notes, strips)


@pytest.mark.slow
async def test_each_key_of_a_view_is_answered_where_nothing_is_listed() -> None:
    assert await dead_keys(STATES["empty"](), PLACES[: len(VIEWS)], of_all=()) == []


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("state", STATES)
async def test_each_key_of_each_screen_and_dialog_is_answered(state: str) -> None:
    assert await dead_keys(STATES[state](), PLACES, of_all=("overview",)) == []


async def dead_keys(
    operations: CannedOperations, places: Sequence[Place], *, of_all: Collection[str]
) -> list[str]:
    """The listed keys that nothing answers; ``of_all``: if those of every screen are pressed, too."""
    app = Dashboard(cast(Operations, operations))
    dead = []
    async with app.run_test(size=SIZES["80x24"]) as pilot:
        app.animation_level = "none"
        walker = Walker(app, pilot)
        await walker.until(lambda: app.session.snapshot)
        for place in places:
            await walker.go(place, renewed=True)
            before = walker.signature()
            for press in list(walker.presses(of_all=place.name in of_all)):
                if press.id in _UNSEEN or press.id == f"app.view-{place.name}":
                    continue
                if not await walker.answers(press):
                    dead.append(f"{place.name}: {press.key} ({press.id})")
                assert app.is_running, (place.name, press)
                assert app._exception is None, (place.name, press, app._exception)
                walker.closed = False
                await walker.go(place)
                if walker.signature() != before:
                    await walker.go(place, renewed=True)
    return dead
