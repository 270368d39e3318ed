"""The palette: what the keys do here, and each queue, view, worker and theme, found by typing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.dom import DOMNode
from textual.screen import Screen

from tui.keymap import is_listed, sentence, word
from tui.navigation import OpenPlans, OpenQueue, OpenView, OpenWorker
from tui.screens.base import DashboardScreen
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.jobs.list import JobsScreen
from tui.screens.overview import OverviewScreen
from tui.screens.workers.list import WorkersScreen
from tui.session import Session
from tui.text.format import clip, escape
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.markable_table import MarkableTable
from tui.widgets.row_list import RowList
from workers.monitoring.snapshot import QueueSnapshot
from workers.operations.operations import DeadLetter, FailureGroup
from workers.operations.worker_list import Worker, list_workers
from workers.words import plural

ScreenT = TypeVar("ScreenT", bound=DashboardScreen)

_MAX_NAME_CHARS = 50
_OF_A_ROW = {
    "alerts.acknowledge",
    "alerts.end-silence",
    "alerts.runbook",
    "alerts.silence",
    "cache.evict",
    "jobs.abort",
    "jobs.duplicate",
    "jobs.remove",
    "jobs.run-now",
    "letters.discard",
    "letters.edit",
    "letters.replay",
    "list.mark",
    "list.open",
    "workers.drain-worker",
    "workers.open-worker",
    "workers.put-back-worker",
    "workers.undo-drain",
}
"""Keys that act on the marked rows or on the one under the cursor: their commands name it."""
_DRAINS = "What runs there may finish, nothing is deleted, and the process ends. Asks once."
_LEFT_OUT = {"app.command-palette", "queues.pause"}
"""The palette itself; and pause, which is listed for each queue."""


@dataclass(frozen=True, slots=True)
class Command:
    """An entry of the palette, and its action."""

    name: str
    help: str
    run: Callable[[], Any]


class KeyCommands(Provider):
    """Searches the commands of the screen from which the palette was opened."""

    async def startup(self) -> None:
        """Collect them once: the screen below does not change."""
        self._commands = list(commands(self.app, self.screen))

    async def discover(self) -> Hits:
        """Yield all, those of the view first."""
        for command in self._commands:
            yield DiscoveryHit(command.name, command.run, help=command.help)

    async def search(self, query: str) -> Hits:
        """Yield those whose name matches."""
        matcher = self.matcher(query)
        for command in self._commands:
            if (score := matcher.match(command.name)) > 0:
                yield Hit(score, matcher.highlight(command.name), command.run, command.name, command.help)


def commands(app: App[Any], screen: Screen[Any]) -> Iterator[Command]:
    """Yield all that can be done from a screen."""
    yield from _key_commands(app, screen)
    session: Session | None = getattr(app, "session", None)
    if session is not None:
        yield from _queue_commands(app, session, row_name(screen))
        yield from _worker_commands(app, session)
        yield from _view_commands(app, screen)
    for theme in sorted(app.available_themes):
        yield Command(f"Theme {theme}", "Change the colours.", partial(setattr, app, "theme", theme))


def _key_commands(app: App[Any], screen: Screen[Any]) -> Iterator[Command]:
    """Return what the active keys do."""
    seen: set[tuple[DOMNode, str]] = set()
    for active in screen.active_bindings.values():
        node, binding = active.node, active.binding
        if (node, binding.action) in seen or not is_listed(active) or binding.id in _LEFT_OUT:
            continue
        seen.add((node, binding.action))
        name = word(binding)
        if binding.id in _OF_A_ROW and (row := row_name(screen)):
            name = f"{name.removesuffix(' it')} {row}"
        elif binding.action.startswith("view("):
            name = f"Go to {name}"
        help_text = f"{app.get_key_display(binding)} · {sentence(node, binding)}"
        yield Command(name, help_text, partial(app.run_action, binding.action, node))


def _queue_commands(app: App[Any], session: Session, focused: str) -> Iterator[Command]:
    """Open, pause and resume each queue, the one under the cursor first."""
    queues = session.snapshot.queues if session.snapshot is not None else ()
    for queue in sorted(queues, key=lambda queue: queue.name != focused):
        show = partial(app.post_message, OpenQueue(queue.name))
        yield Command(f"Open queue {queue.name}", "Everything about it.", show)
        if queue.paused is None:
            words, help_text = "Pause", "No job of it starts, in any process. Asks for a reason."
        else:
            words, help_text = "Resume", "Its jobs start again."
        yield Command(f"{words} {queue.name}", help_text, partial(_pause, app, queue))
        yield Command(
            f"Enqueue in {queue.name}", "A job, by a form of its fields.", partial(_enqueue, app, queue)
        )


def _worker_commands(app: App[Any], session: Session) -> Iterator[Command]:
    snapshot = session.snapshot
    for worker in list_workers(snapshot.workers, snapshot.queues) if snapshot is not None else ():
        name = clip(escape(worker.name), _MAX_NAME_CHARS)
        show = partial(app.post_message, OpenWorker(worker.id))
        yield Command(f"Open worker {name}", "Its jobs, its settings, its log.", show)
        if worker.state == "draining":
            words, help_text = "Undo the drain of", "It takes jobs again."
        else:
            words, help_text = "Drain worker", _DRAINS
        yield Command(f"{words} {name}", help_text, partial(_drain, app, worker))


def _view_commands(app: App[Any], screen: Screen[Any]) -> Iterator[Command]:
    """Yield actions on more than a row names: those that have no key, and those of other views' keys."""
    on_letters = partial(_act_on, app, "letters", DeadLettersScreen)
    on_cache = partial(_act_on, app, "cache", CacheScreen)
    matching = "All that match the filter of their view"
    yield Command(
        "Archive old dead letters",
        "Counts those of an age first. Asks once.",
        partial(on_letters, lambda letters: letters.run_exclusive(letters.archive)),
    )
    if not isinstance(screen, DeadLettersScreen):
        replay = partial(on_letters, DeadLettersScreen.action_replay_all)
        yield Command("Replay dead letters", f"{matching}. Asks once.", replay)
        export = partial(on_letters, DeadLettersScreen.action_export)
        yield Command("Export dead letters", f"{matching}, or the group under the cursor.", export)
        plans = partial(app.post_message, OpenPlans())
        yield Command("Replay plans", "The newest replays, and how they ended.", plans)
    if not isinstance(screen, CacheScreen):
        evict = partial(on_cache, CacheScreen.action_evict_all)
        yield Command("Evict cache entries", f"{matching}. Counts them, and asks once.", evict)
        yield Command(
            "Evict a user",
            "All cache entries of one user. Counts them, and asks once.",
            partial(on_cache, lambda cache: cache.run_exclusive(cache.prompt_evict_user)),
        )
    yield Command(
        "Drain every process",
        f"Of the whole cluster. {_DRAINS}",
        partial(_act_on, app, "workers", WorkersScreen, lambda view: view.run_exclusive(view.drain_all)),
    )


def _act_on(app: App[Any], view: str, screen_type: type[ScreenT], act: Callable[[ScreenT], object]) -> None:
    """Act on a view's screen there, where the result is shown."""

    def run() -> None:
        screen = app.screen
        if isinstance(screen, screen_type):
            act(screen)

    app.post_message(OpenView(view))
    app.call_later(run)


def _enqueue(app: App[Any], queue: QueueSnapshot) -> None:
    """Enqueue a job on the view of the jobs."""
    _act_on(app, "jobs", JobsScreen, lambda screen: screen.run_exclusive(screen.enqueue_job, queue.name))


def _pause(app: App[Any], queue: QueueSnapshot) -> None:
    """Pause or resume a queue on the overview, which shows the result."""
    _act_on(app, "overview", OverviewScreen, lambda screen: screen.run_exclusive(screen.toggle_pause, queue))


def _drain(app: App[Any], worker: Worker) -> None:
    """Drain a process on the view of the processes, or undo that."""

    def act(screen: WorkersScreen) -> None:
        verb = screen.undo_drain if worker.state == "draining" else screen.drain_worker
        screen.run_exclusive(verb, worker)

    _act_on(app, "workers", WorkersScreen, act)


def row_name(screen: Screen[Any]) -> str:
    """Return the marked rows, the one under the cursor, or the subject of the screen; empty if none."""
    focused = screen.focused
    if isinstance(focused, MarkableTable) and focused.marks:
        return plural(len(focused.marks), "marked row")
    if isinstance(focused, KeyedTable | RowList) and focused.selected is not None:
        return clip(escape(_name_of(focused.selected)), _MAX_NAME_CHARS)
    subject = screen.subject if isinstance(screen, DashboardScreen) else ""
    return clip(escape(subject), _MAX_NAME_CHARS)


def _name_of(item: object) -> str:
    if isinstance(item, FailureGroup):
        return f"the group of {item.sample.function}"
    name = getattr(item, "name", None) or getattr(item, "key", None)
    noun = "letter" if isinstance(item, DeadLetter) else type(item).__name__.lower()
    return name if isinstance(name, str) else f"{noun} {getattr(item, 'id', '')}"
