"""What can be done with cache entries, on every view that shows some."""

from __future__ import annotations

from collections.abc import Sequence

from tui.dialogs.common import Ask, Confirm
from tui.screens.acting import Acting
from tui.text.format import clip, clip_middle, escape
from tui.text.words import plural
from workers.operations.cache import CacheOperations, glob_pattern, owner_of

_KEY = 120
"""Characters of a key, a user's id or a pattern in a question."""
_HARMLESS = "What is evicted is loaded again when somebody asks for it."
_LONGEST_USER = 200


class Evictions(Acting):
    """Each asks once, with the count, and then has what is shown read anew."""

    @property
    def cache(self) -> CacheOperations:
        """The verbs."""
        return self.dashboard.operations.cache

    def acted(self) -> None:
        """There are fewer entries now."""
        self.dashboard.look_again(letters=True)

    async def evict_keys(self, keys: Sequence[str], what: str, *, pattern: str | None = None) -> None:
        """Evict exactly these, which were found by ``pattern`` where there is one."""
        question = Confirm(f"Evict {plural(len(keys), 'entry')}?", f"{what}. {_HARMLESS}", "Evict")
        if not await self.app.push_screen_wait(question):
            return
        with self.busy(f"evicting {plural(len(keys), 'entry')}"):
            evicted = await self.dashboard.attempt(self.cache.evict(keys, pattern=pattern))
        if evicted is None:
            return
        gone = f"; {plural(len(keys) - evicted, 'entry')} had gone already" if evicted < len(keys) else ""
        self.notify(f"{plural(evicted, 'entry')} evicted{gone}")
        self.acted()

    async def evict_matching(self, written: str) -> None:
        """Evict all that fit what was written on the filter line: those that are counted now."""
        pattern = glob_pattern(written)
        with self.busy("counting the entries"):
            keys = await self.dashboard.attempt(self.cache.matching(pattern))
        if keys is None:
            return
        if not keys:
            self.notify("no entry fits: there is nothing to evict", severity="warning")
            return
        what = f"All whose key fits {clip(escape(pattern), _KEY)}" if written else "All that the cache has"
        await self.evict_keys(keys, what, pattern=pattern)

    async def evict_user(self, user: str) -> None:
        """Evict all entries of a user, in one round trip."""
        number = await self.dashboard.attempt(self.cache.count_of_user(user))
        if number is None:
            return
        name = clip(escape(user), _KEY)
        if number == 0:
            self.notify(f"nothing of user {name} is cached", severity="warning", markup=False)
            return
        question = Confirm(
            f"Evict {plural(number, 'entry')}?",
            f"All of user {name}; what is being loaded for them now is not kept, either. {_HARMLESS}",
            "Evict",
        )
        if not await self.app.push_screen_wait(question):
            return
        removed = await self.dashboard.attempt(self.cache.evict_user(user))
        if removed is not None:
            self.notify(f"{plural(removed, 'entry')} of user {name} evicted", markup=False)
            self.acted()

    async def evict_some_user(self) -> None:
        """Ask whose entries are to go."""
        question = Ask(
            "Evict a user",
            "All entries of one user go; how many there are is shown first.",
            "count them",
            placeholder="id of the user",
            problem=_user_problem,
        )
        user = await self.app.push_screen_wait(question)
        if user is not None:
            await self.evict_user(user)


def one(key: str) -> str:
    """What the eviction of one entry is about."""
    return f"{clip_middle(escape(key), _KEY)} of user {clip(escape(owner_of(key)), _KEY)}"


def _user_problem(user: str) -> str:
    if not user:
        return "write the id of a user"
    return "" if len(user) <= _LONGEST_USER else f"an id has at most {_LONGEST_USER} characters"
