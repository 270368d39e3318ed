"""The views, each in one line: its key, name, title and count, and its screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tui.screens.base import DashboardScreen
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.events.list import EventsScreen
from tui.screens.jobs.list import JobsScreen
from tui.screens.overview import OverviewScreen
from tui.screens.workers.list import WorkersScreen
from tui.session import Session
from tui.text.tabs import Tab, count_alerts, count_drains, count_jobs, count_letters, count_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Tab):
    """A tab, what the palette shows about it, and what makes its screen."""

    purpose: str
    screen: Callable[[Session], DashboardScreen] = field(repr=False)


VIEWS: tuple[View, ...] = (
    View("1", "overview", "Overview", count_alerts, purpose="The queues now", screen=OverviewScreen),
    View("2", "letters", "Dead letters", count_letters, purpose="Replay, discard", screen=DeadLettersScreen),
    View("3", "jobs", "Jobs", count_jobs, purpose="What runs and waits, and why", screen=JobsScreen),
    View("4", "workers", "Workers", count_workers, purpose="Who works, drain", screen=WorkersScreen),
    View("5", "cache", "Cache", purpose="Hit rate, memory, entries", screen=CacheScreen),
    View("6", "events", "Events", count_drains, purpose="What happened, drains", screen=EventsScreen),
)
"""In the order of their tabs.  The first one is shown at the start."""
