"""Actions on cache entries, for every screen that shows some."""

from __future__ import annotations

from collections.abc import Sequence

from tui.dialogs.confirm import Confirm
from tui.dialogs.prompt import Prompt
from tui.screens.base import DashboardScreen
from tui.text.format import clip, clip_middle, escape
from workers.operations.cache import CacheOperations, glob_pattern, owner_of, user_id_problem
from workers.words import plural

_MAX_CHARS = 120
"""A question shows so much of a key, a user's id or a pattern."""
_HARMLESS = "Evicted entries are loaded again when they are next read."


class CacheActions(DashboardScreen):
    """Each action asks once, with the number of entries, and then has the screens fetch their data again."""

    @property
    def cache(self) -> CacheOperations:
        """The operations on the cache."""
        return self.session.operations.cache

    def entries_evicted(self) -> None:
        """Show that there are fewer entries."""
        self.session.refresh(screens=True)

    async def evict_keys(self, keys: Sequence[str], label: str, *, pattern: str | None = None) -> None:
        """Evict exactly these entries, which ``pattern`` found, if any."""
        if not self.session.may_change():
            return
        entries = plural(len(keys), "entry")
        question = Confirm(f"Evict {entries}?", f"{label}. {_HARMLESS}", "Evict")
        if not await self.app.push_screen_wait(question):
            return
        with self.busy_with(f"evicting {entries}"):
            evicted = await self.session.run(self.cache.evict(keys, pattern=pattern))
        if evicted is None:
            return
        missing = len(keys) - evicted
        already_missing = f"; {plural(missing, 'entry')} had gone already" if missing > 0 else ""
        self.notify(f"{plural(evicted, 'entry')} evicted{already_missing}")
        self.entries_evicted()

    async def evict_matching(self, filter_text: str) -> None:
        """Evict the entries that match the filter now."""
        if not self.session.may_change():
            return
        pattern = glob_pattern(filter_text)
        with self.busy_with("counting the entries"):
            keys = await self.session.run(self.cache.keys_matching(pattern))
        if keys is None:
            return
        if not keys:
            self.notify("no entry matches: there is nothing to evict", severity="warning")
            return
        matching = f"All whose key matches {clip(escape(pattern), _MAX_CHARS)}"
        await self.evict_keys(keys, matching if filter_text else "All entries of the cache", pattern=pattern)

    async def evict_user(self, user: str) -> None:
        """Evict all entries of a user, in one round trip."""
        if not self.session.may_change():
            return
        number = await self.session.run(self.cache.count_for_user(user))
        if number is None:
            return
        name = clip(escape(user), _MAX_CHARS)
        if number == 0:
            self.notify(f"nothing of user {name} is cached", severity="warning", markup=False)
            return
        question = Confirm(
            f"Evict {plural(number, 'entry')}?",
            f"All of user {name}, and those that are being loaded now. {_HARMLESS}",
            "Evict",
        )
        if not await self.app.push_screen_wait(question):
            return
        evicted = await self.session.run(self.cache.evict_user(user))
        if evicted is not None:
            self.notify(f"{plural(evicted, 'entry')} of user {name} evicted", markup=False)
            self.entries_evicted()

    async def prompt_evict_user(self) -> None:
        """Ask for a user, then evict their entries."""
        if not self.session.may_change():
            return
        question = Prompt(
            "Evict a user",
            "Evicts all entries of one user; their number is shown first.",
            "count them",
            placeholder="id of the user",
            check=user_id_problem,
        )
        user = await self.app.push_screen_wait(question)
        if user is not None:
            await self.evict_user(user)


def describe_entry(key: str) -> str:
    """Return the key and its user, for the question about one entry."""
    return f"{clip_middle(escape(key), _MAX_CHARS)} of user {clip(escape(owner_of(key)), _MAX_CHARS)}"
