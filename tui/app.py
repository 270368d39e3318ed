"""The dashboard: fetches one snapshot a second and hands it to the view that is shown."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, TextIO, TypeVar

import structlog
from rich.console import RenderableType
from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingsMap, BindingType
from textual.containers import ScrollableContainer
from textual.driver import Driver
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable
from textual.worker import WorkerFailed

from tui.containment import contain_errors
from tui.dialogs.common import Confirm, Help
from tui.driver import Terminal
from tui.screens.base import View
from tui.screens.cache.list import CacheView
from tui.screens.dead_letters.list import Letters
from tui.screens.overview import Overview
from tui.text.format import clip, escape
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import OPERATION_ERRORS, Operations, Selection

T = TypeVar("T")

log = structlog.get_logger(__name__)

_TICK = 1.0
"""Seconds between looks whether it is time for a snapshot, and whether the terminal is still there."""
_PATIENCE = 5.0
"""Seconds that a snapshot may take."""
_MESSAGE = 300
"""Characters of an error that are shown: its text may hold a job's key."""

_MAX_DEFECTS, _DEFECTS_SECONDS = 20, 10.0
"""So many exceptions in so many seconds, none of them caused by a key, and the dashboard gives up."""
_MAX_UNPAINTED = 5
"""So many exceptions over at least as many seconds as above, and no frame between them: it gives up, too."""
_NOTICE_SECONDS = 5.0
"""Between two notices of exceptions."""


def _named(binding: Binding) -> tuple[str, str, str]:
    return binding.key, binding.action, binding.description


_OF_COURSE = {
    _named(binding)
    for of in (DataTable, ScrollableContainer, Screen)
    for bindings in BindingsMap(of.BINDINGS).key_to_bindings.values()
    for binding in bindings
    if binding.action != "app.focus_next"
}
"""Keys that every table has: the help does not list them."""


class Dashboard(App[int]):
    """Speaks to ``operations`` and to nothing below them."""

    TITLE = "CoutureCast"
    CSS_PATH = "styles.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "overview": Overview,
        "letters": Letters,
        "cache": CacheView,
    }
    DEFAULT_MODE = "overview"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("1", "view('overview')", "Overview"),
        Binding("2", "view('letters')", "Dead letters"),
        Binding("5", "view('cache')", "Cache"),
        Binding("D", "drain", "Drain"),
        Binding("q,ctrl+q", "quit", "Quit", key_display="q"),
        Binding("exclamation_mark", "put_back", "Put back now", show=False),
        Binding("ctrl+l", "redraw", "Paint everything again", show=False, priority=True),
    ]

    def __init__(
        self,
        operations: Operations,
        *,
        demo: bool = False,
        interval: float = 1.0,
        terminal: TextIO | None = None,
    ) -> None:
        """``interval``: seconds between snapshots, and so between paintings.

        It draws on ``terminal``, by default standard error.
        """
        contain_errors()
        super().__init__()
        self.operations = operations
        self.terminal = terminal
        self.snapshot: Snapshot | None = None
        self.problem: str | None = None
        """Why the snapshot on the screen is not of this second."""
        self.discarded: tuple[Selection, int] | None = None
        """What was discarded last from here, and how many letters that were."""
        self._demo = demo
        self._interval = interval
        self._fetching = False
        self._due = 0.0
        self._defects: deque[float] = deque(maxlen=_MAX_DEFECTS)
        self._unpainted: list[float] = []
        """When there were exceptions after which nothing has been painted."""
        self._notice_due = 0.0

    @property
    def failed(self) -> bool:
        """Once it has ended: whether it did so by itself, and nobody asked it to."""
        return not self._exit

    @property
    def now(self) -> float:
        """Unix seconds of the last snapshot: what stands in the header."""
        return self.snapshot.taken_at if self.snapshot is not None else time.time()

    def get_driver_class(self) -> type[Driver]:
        """A terminal that never keeps the workers waiting."""
        return Terminal

    def on_mount(self) -> None:
        """Start the clock."""
        self.set_interval(_TICK, self._tick)
        self.look_again()
        if self._interval > _TICK:
            self.notify(
                f"economical: a snapshot every {self._interval:g} s, and after each act; r takes one now",
                timeout=8,
            )
        if self.operations.read_only:
            self.notify("read-only: nothing can be changed from here", severity="warning", timeout=8)
        if self._demo:
            self.notify(
                "sample jobs are fed; some fail, so that there are dead letters to look at", timeout=8
            )

    def _tick(self) -> None:
        """A drain is followed by the second, whatever a snapshot costs."""
        if isinstance(self._driver, Terminal) and self._driver.gone:
            self.exit(0)
        elif self.operations.draining or time.monotonic() >= self._due:
            self.look_again()

    def look_again(self, *, letters: bool = False) -> None:
        """Fetch a snapshot now, unless one is being fetched; a slow one never piles up.

        With ``letters`` the views that are open read theirs anew, too.
        """
        for screen in self.screen_stack if letters else ():
            if isinstance(screen, View):
                screen.look_again()
        if not self._fetching:
            self._fetching = True
            self._due = time.monotonic() + self._interval - _TICK / 2
            self.fetch()

    @work
    async def fetch(self) -> None:
        """One snapshot, shown by the view on top."""
        try:
            async with asyncio.timeout(_PATIENCE):
                self.snapshot = await self.operations.snapshot()
            self.problem = None
        except TimeoutError:
            self.problem = f"no answer for {_PATIENCE:g} s"
        except OPERATION_ERRORS as error:
            self.problem = clip(escape(f"{type(error).__name__}: {error}"), _MESSAGE)
        finally:
            self._fetching = False
        if not self.is_running:  # its screens are being taken away
            return
        for screen in self.screen_stack:
            if isinstance(screen, View) and screen.is_mounted:
                screen.show(self.snapshot, self.problem)

    async def attempt(self, verb: Awaitable[T]) -> T | None:
        """Await a verb; where it fails its error is shown on one line, and the answer is None.

        It is None, too, where the dashboard ended meanwhile: there is nothing to show it on.
        """
        try:
            answer = await verb
        except OPERATION_ERRORS as error:
            self.notify(clip(escape(str(error)), _MESSAGE), severity="error", markup=False)
            return None
        return answer if self.is_running else None

    def _handle_exception(self, error: Exception) -> None:
        """A defect is logged and noticed, and the dashboard goes on; too many in a row end it."""
        self.report_defect(error)
        now = time.monotonic()
        self._defects.append(now)
        self._unpainted.append(now)
        too_many = len(self._defects) == _MAX_DEFECTS and now - self._defects[0] < _DEFECTS_SECONDS
        blank = len(self._unpainted) >= _MAX_UNPAINTED and now - self._unpainted[0] > _DEFECTS_SECONDS
        if too_many or blank or not self.is_running:
            self._return_code = 1
            self._close_messages_no_wait()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Paint a frame, and note that it could be painted."""
        before = len(self._unpainted)
        super()._display(screen, renderable)
        if renderable is not None and len(self._unpainted) == before:
            self._unpainted.clear()

    def report_defect(self, error: Exception) -> None:
        """Log a defect with its traceback, which shows no variables: they hold secrets; say so."""
        cause = error.error if isinstance(error, WorkerFailed) else error
        log.error("a defect of the dashboard", exc_info=cause)
        if self._exception is None:  # for tests, which it fails
            self._exception = error
            self._exception_event.set()
        if time.monotonic() >= self._notice_due and self.is_running:
            self._notice_due = time.monotonic() + _NOTICE_SECONDS
            self.notify(
                f"a defect of the dashboard: {type(cause).__name__}; the log has its traceback, all goes on",
                severity="error",
                markup=False,
            )

    def _print(self, text: str, stderr: bool = False) -> None:
        """What is printed beside the dashboard goes where descriptors 1 and 2 lead: into the log file."""
        super()._print(text, stderr)
        stream = sys.__stderr__ if stderr else sys.__stdout__
        if self.terminal is not None and stream is not None:
            stream.write(text)
            stream.flush()

    def action_redraw(self) -> None:
        """Paint everything again, whatever another program has left on the terminal."""
        if isinstance(self._driver, Terminal):
            self._driver.redraw()

    def drained(self) -> None:
        """The process has drained: nothing is left to show."""
        if self.is_running:
            self.exit(0)

    def action_view(self, name: str) -> None:
        """Show another view; what lay over the present one is closed."""
        while len(self.screen_stack) > 1:
            top = self.screen_stack[-1]
            if isinstance(top, ModalScreen):
                top.dismiss()  # whoever waits for its answer has none
            else:
                self.pop_screen()
        self.switch_mode(name)

    @work
    async def action_drain(self) -> None:
        """Ask, then drain this process."""
        if not self.operations.can_drain:
            self.notify("this process runs no workers: there is nothing to drain", severity="warning")
            return
        question = Confirm(
            "Drain and exit?",
            "Graceful drain: finishes what runs, deletes nothing. No new job starts here; what has not ended "
            "in time goes back to the head of its queue.",
            "Drain",
        )
        if await self.push_screen_wait(question):
            await self.attempt(self.operations.drain())
            self.look_again()

    async def action_quit(self) -> None:
        """Quit by way of a drain; without workers there is nothing to wait for.

        In read-only mode the dashboard goes, and the process drains without it.
        """
        if not self.operations.can_drain or self.operations.read_only:
            self.exit(0)
        elif self.operations.in_flight == 0:
            await self.attempt(self.operations.drain())
        elif self.operations.draining:
            self.notify("drains already; ! puts the jobs back and exits now")
        else:
            self.action_drain()

    @work
    async def action_put_back(self) -> None:
        """While draining: do not wait any longer."""
        if self.operations.draining and await self.push_screen_wait(
            Confirm(
                "Put back now and exit?",
                "Jobs in flight go to the head of their queues, uncharged.",
                "Put back",
            )
        ):
            await self.attempt(self.operations.drain(now=True))

    def action_help(self) -> None:
        """The keys of what is focused, of this view, and of all views."""
        if isinstance(self.screen, Help):
            return
        view = self.screen if isinstance(self.screen, View) else View()
        keys = {
            active.binding.key_display or self.get_key_display(active.binding): active.binding.description
            for active in self.screen.active_bindings.values()
            if active.binding.description and active.enabled and _named(active.binding) not in _OF_COURSE
        }
        self.push_screen(Help(view.HELP, list(keys.items()), view.SIGNS))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette's verbs."""
        yield SystemCommand("Overview", "The queues at this moment", lambda: self.action_view("overview"))
        yield SystemCommand("Dead letters", "All of them, by page", lambda: self.action_view("letters"))
        yield SystemCommand("Cache", "Hit rate, memory, entries", lambda: self.action_view("cache"))
        yield SystemCommand("Drain", "Finish what runs, delete nothing, exit", self.action_drain)
        yield SystemCommand("Help", "Keys and signs", self.action_help)
        yield SystemCommand("Quit", "By way of a drain", self.run_quit)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    async def run_quit(self) -> None:
        """As the key does."""
        await self.action_quit()
