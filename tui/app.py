"""The dashboard: takes snapshots, hands them to the open screens, and opens other screens."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TextIO

import structlog
from rich.console import RenderableType
from textual import work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.driver import Driver
from textual.notifications import Notify
from textual.screen import ModalScreen, Screen
from textual.types import CSSPathType
from textual.worker import WorkerFailed, active_worker

from tui.containment import contain_errors
from tui.dialogs.alerts import AlertsDialog
from tui.dialogs.confirm import Confirm
from tui.dialogs.help import Help
from tui.driver import NonBlockingDriver
from tui.jumping import jump_targets
from tui.keymap import help_sections, key_name, name_bindings, with_keys
from tui.opening import OpeningApp
from tui.palette import KeyCommands
from tui.removed_widgets import free_removed_widgets, misses_removed_widget
from tui.screens.base import DashboardScreen
from tui.session import Session, one_line
from tui.state import RememberedState
from tui.views import VIEWS
from tui.widgets.jump import JumpDialog
from workers.operations.operations import Operations
from workers.words import plural

log = structlog.get_logger(__name__)

_TIMER_SECONDS = 1.0
"""Between two checks whether a snapshot is due, and whether the terminal is still connected."""
_MAX_DEFECTS, _DEFECTS_SECONDS = 20, 10.0
"""The dashboard closes at so many exceptions within so many seconds, none of them caused by a key."""
_MAX_UNPAINTED_DEFECTS = 5
"""It also closes at so many exceptions over at least as many seconds without a painted frame."""
_DEFECT_NOTICE_SECONDS = 5.0
"""Between two notices of defects."""
_MAX_NOTICES = 3
"""Messages that are shown at once."""
_NOTICE_SECONDS = 8.0
"""For which a notice at the start is shown."""

_KEY_NAMES = {"enter": "enter", "escape": "esc", "backspace": "backspace"}


_SAVING = "saving"
"""Group of the worker that writes the file of what is remembered."""


class Dashboard(OpeningApp, inherit_bindings=False):
    """It uses ``operations`` and nothing below them."""

    TITLE = "CoutureCast"
    CSS_PATH: ClassVar[CSSPathType | None] = [
        "styles/base.tcss",
        "styles/screens.tcss",
        "styles/dialogs.tcss",
    ]
    ENABLE_COMMAND_PALETTE = True
    DEFAULT_MODE = VIEWS[0].name
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {KeyCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("colon", "command_palette", "Commands", key_display=":"),
        Binding("ctrl+p", "command_palette", "Commands", show=False),
        Binding("J,ctrl+o", "jump", "Jump to a part of the screen", show=False),
        *(
            Binding(view.key, f"view('{view.name}')", view.title, show=False, tooltip=f"{view.purpose}.")
            for view in VIEWS
        ),
        Binding("a", "alerts", "Alerts"),
        Binding("D", "drain", "Drain"),
        Binding("q,ctrl+q", "quit", "Quit"),
        Binding("exclamation_mark", "requeue", "Requeue now", show=False),
        Binding("ctrl+c", "help_quit", show=False, system=True),
        Binding("ctrl+l", "redraw", "Paint everything again", show=False, priority=True),
    ]

    def __init__(
        self,
        operations: Operations,
        *,
        demo: bool = False,
        interval: float = 1.0,
        terminal: TextIO | None = None,
        data_dir: Path | None = None,
        remote: bool = False,
        editor: str | None = None,
        keymap: Mapping[str, str] | None = None,
    ) -> None:
        """Draw on ``terminal``, by default standard error; ``interval``: seconds between snapshots.

        View, theme, sort and filters are remembered in ``data_dir``.  A ``remote`` operator has no account
        on this machine: neither files are written for him here, nor programs started.  ``keymap``: see
        `parse_keymap`.
        """
        contain_errors()
        free_removed_widgets()
        state = RememberedState(data_dir)
        super().__init__(state)
        self.set_keymap(dict(keymap or {}))
        self.operations = operations
        self.terminal = terminal
        self.session = Session(
            operations, self, self._refresh, tabs=VIEWS, state=state, remote=remote, editor=editor
        )
        for view in VIEWS:
            self.add_mode(view.name, partial(view.screen, self.session))
        self.painted = asyncio.Event()
        """Set once it has painted a frame."""
        self._demo = demo
        self._interval = interval
        self._taking_snapshot = False
        self._next_snapshot = 0.0
        self._defects: deque[float] = deque(maxlen=_MAX_DEFECTS)
        self._unpainted_defects: list[float] = []
        """When there were exceptions after which nothing has been painted."""
        self._next_defect_notice = 0.0

    @property
    def failed(self) -> bool:
        """Whether it has ended by itself, without a request."""
        return not self._exit

    def get_driver_class(self) -> type[Driver]:
        """Return a driver that never blocks the workers."""
        return NonBlockingDriver

    def on_load(self) -> None:
        """Have tasks begin in the next turn of the event loop, on every Python.

        From Python 3.12 on Textual has all tasks of the loop begin at once, those of the workers, too.  So
        widgets were mounted before their screen was on the stack.
        """
        asyncio.get_running_loop().set_task_factory(None)

    def on_mount(self) -> None:
        """Start the timer, take the first snapshot, and show the notices of the start."""
        self.set_interval(_TIMER_SECONDS, self._on_timer)
        remembered = self.session.state.get("view")
        if remembered != self.current_mode and remembered in {view.name for view in VIEWS}:
            self.switch_mode(remembered)
        self.keep_view(self.current_mode)
        self.session.refresh()
        if self._interval > _TIMER_SECONDS:
            self.notify(
                f"economical: a snapshot every {self._interval:g} s, and after each action; "
                f"{key_name(self, 'list.reload')} takes one now",
                timeout=_NOTICE_SECONDS,
            )
        if self.operations.read_only:
            self.notify(
                "read-only: nothing can be changed from here", severity="warning", timeout=_NOTICE_SECONDS
            )
        if self._demo:
            self.notify(
                "demo: sample jobs are enqueued; some fail, so that there are dead letters",
                timeout=_NOTICE_SECONDS,
            )

    def get_key_display(self, binding: Binding) -> str:
        """Name a key as it is written on a keyboard."""
        return binding.key_display or _KEY_NAMES.get(binding.key) or super().get_key_display(binding)

    # Snapshots

    def _on_timer(self) -> None:
        """Take a snapshot if it is due; while draining every second, whatever a snapshot costs."""
        if not self.is_running:  # its screens are being removed
            return
        if not (self.session.state.is_saved or any(worker.group == _SAVING for worker in self.workers)):
            self.run_worker(self.session.state.save, thread=True, group=_SAVING)
        if isinstance(self._driver, NonBlockingDriver) and self._driver.is_disconnected:
            self.exit(0)
        elif self.operations.draining:
            self.session.refresh()
        elif time.monotonic() >= self._next_snapshot:
            self._refresh(False)
        screen = self.screen
        if self.session.figures_are_old and isinstance(screen, DashboardScreen) and screen.is_mounted:
            screen.show_frame()

    def on_unmount(self) -> None:
        """Keep what was chosen last."""
        self.session.state.save()

    def _refresh(self, screens: bool) -> None:
        """Take a snapshot now, unless one is being taken, so that slow ones do not pile up."""
        for screen in self.screen_stack if screens else ():
            if isinstance(screen, DashboardScreen):
                screen.refresh_data()
        if not self._taking_snapshot:
            self._taking_snapshot = True
            self._next_snapshot = time.monotonic() + self._interval - _TIMER_SECONDS / 2
            self.take_snapshot()

    @work
    async def take_snapshot(self) -> None:
        """Take a snapshot and show it on the open screens."""
        try:
            await self.session.take_snapshot()
        finally:
            self._taking_snapshot = False
        if not self.is_running:  # its screens are being removed
            return
        for screen in self.screen_stack:
            if isinstance(screen, DashboardScreen) and screen.is_mounted:
                if self.session.frozen:
                    screen.show_frame()
                else:
                    screen.update_snapshot(self.session.snapshot, self.session.snapshot_error)
        for alert in self.session.new_alerts():
            words = f"{alert.queue}: {alert.message}" if alert.queue else alert.message
            urgent = alert.severity == "critical"
            self.notify(one_line(f"▲ {words}"), severity="error" if urgent else "warning", markup=False)
        await self.session.find_well_since()

    def on_notify(self, event: Notify) -> None:
        """Remove equal notices, and the oldest ones, so that with the new one there are not too many."""
        for shown in list(self._notifications):
            if shown.message == event.notification.message:
                self._unnotify(shown, refresh=False)
        for oldest in list(self._notifications)[: 1 - _MAX_NOTICES]:
            self._unnotify(oldest, refresh=False)

    # Dialogs of every screen

    def action_alerts(self) -> None:
        """List the alerts."""
        if not isinstance(self.screen, ModalScreen):
            self.push_screen(AlertsDialog(self.session))

    def action_help(self) -> None:
        """Show the keys that work here, with a sentence each, and the signs."""
        if not isinstance(self.screen, Help):
            screen = self.screen if isinstance(self.screen, DashboardScreen) else DashboardScreen
            legend = [with_keys(self, line) for line in screen.LEGEND]
            self.push_screen(Help(with_keys(self, screen.HELP), help_sections(self), legend))

    @work
    async def action_jump(self) -> None:
        """Show a letter on each part of the screen; pressing it goes there."""
        if targets := jump_targets(self.screen):
            target = await self.push_screen_wait(JumpDialog(targets))
            if target is not None:
                target.go()

    # The end

    @work
    async def action_drain(self) -> None:
        """Ask, then drain this process."""
        if not self.operations.has_workers:
            self.notify("this process runs no workers: there is nothing to drain", severity="warning")
            return
        if not self.session.may_change():
            return
        question = Confirm(
            f"Drain and exit? {plural(self.operations.in_flight, 'job')} in flight here",
            "Graceful drain: finishes what runs, deletes nothing. No new job starts here; jobs that have not "
            "ended in time return to the head of their queue.",
            "Drain",
        )
        if await self.push_screen_wait(question):
            await self.session.run(self.operations.drain())
            self.session.refresh()

    async def action_quit(self) -> None:
        """Drain, then quit; without workers quit at once.

        In read-only mode the dashboard closes, and the process drains without it.
        """
        if not self.operations.has_workers or self.operations.read_only:
            self.exit(0)
        elif self.operations.in_flight == 0:
            await self.session.run(self.operations.drain())
        elif self.operations.draining:
            self.notify(with_keys(self, "already draining; {app.put-back} requeues the jobs and exits now"))
        else:
            self.action_drain()

    @work
    async def action_requeue(self) -> None:
        """Requeue the jobs and exit now, while draining.  Asks once."""
        if not self.operations.draining:
            drains = with_keys(self, "this process does not drain: {app.drain} drains it")
            none = "this process runs no workers: there is nothing to requeue"
            self.notify(drains if self.operations.has_workers else none)
            return
        question = Confirm(
            f"Requeue {plural(self.operations.in_flight, 'job')} now and exit?",
            "Jobs in flight return to the head of their queues, uncharged.",
            "Requeue",
        )
        if await self.push_screen_wait(question):
            await self.session.run(self.operations.drain(now=True))

    def on_drained(self) -> None:
        """Close: the process has drained."""
        if self.is_running:
            self.exit(0)

    # Defects, and the terminal

    def _handle_exception(self, error: Exception) -> None:
        """Report a defect and go on; too many in a row close the dashboard."""
        if isinstance(error, WorkerFailed) and misses_removed_widget(error.error, active_worker.get().node):
            return
        self.report_defect(error)
        now = time.monotonic()
        self._defects.append(now)
        self._unpainted_defects.append(now)
        too_many = len(self._defects) == _MAX_DEFECTS and now - self._defects[0] < _DEFECTS_SECONDS
        unpainted = self._unpainted_defects
        blank = len(unpainted) >= _MAX_UNPAINTED_DEFECTS and now - unpainted[0] > _DEFECTS_SECONDS
        if too_many or blank or not self.is_running:
            self._return_code = 1
            self._close_messages_no_wait()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Paint a frame, and note that it could be painted."""
        before = len(self._unpainted_defects)
        super()._display(screen, renderable)
        if renderable is not None and len(self._unpainted_defects) == before:
            self._unpainted_defects.clear()
            self.painted.set()

    def report_defect(self, error: Exception) -> None:
        """Log a defect and show a notice; its traceback has no variables, which may hold secrets."""
        cause = error.error if isinstance(error, WorkerFailed) else error
        log.error("a defect of the dashboard", exc_info=cause)
        if self._exception is None:  # for tests: it fails them
            self._exception = error
            self._exception_event.set()
        if time.monotonic() >= self._next_defect_notice and self.is_running:
            self._next_defect_notice = time.monotonic() + _DEFECT_NOTICE_SECONDS
            self.notify(
                f"a defect of the dashboard: {type(cause).__name__}; the log has its traceback",
                severity="error",
                markup=False,
            )

    def _print(self, text: str, stderr: bool = False) -> None:
        """Write a handler's prints to descriptors 1 and 2, which lead to the log file."""
        super()._print(text, stderr)
        stream = sys.__stderr__ if stderr else sys.__stdout__
        if self.terminal is not None and stream is not None:
            stream.write(text)
            stream.flush()

    def action_redraw(self) -> None:
        """Paint everything again, over the output of other programs."""
        if isinstance(self._driver, NonBlockingDriver):
            self._driver.redraw()


name_bindings()
