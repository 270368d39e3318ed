"""Actions on dead letters, for every screen that shows some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from tui.dialogs.confirm import Confirm
from tui.dialogs.edit_payload import EditPayloadDialog
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.keymap import key_name, with_keys
from tui.navigation import OpenPlan
from tui.screens.base import DashboardScreen
from tui.screens.dead_letters.export import parse_target, suggested_name, write_file
from tui.session import Discard
from tui.text.export import escape_piece
from tui.text.format import byte_size, clip, count, escape
from workers.operations.operations import (
    MAX_AGE_DAYS,
    RETENTION_DAYS,
    DeadLetter,
    DeadLetterOperations,
    ExportFormat,
    LetterFilter,
    Preview,
    Selection,
)
from workers.words import plural

_MAX_KEY_CHARS = 60
"""A question shows so much of a job's key: other producers may choose thousands of characters."""
_MAX_PATH_CHARS = 200

_NOTHING_DISCARDED = (
    "nothing was discarded from here: {letters.state} shows discarded letters, "
    "{letters.restore} restores those"
)


class LetterActions(DashboardScreen):
    """Each action asks once, with the number of letters, and then has the screens fetch their data again."""

    @property
    def letters(self) -> DeadLetterOperations:
        """The operations on dead letters."""
        return self.session.operations.dead_letters

    def letters_changed(self, selection: Selection) -> None:
        """Show that an action has changed these letters."""
        self.session.refresh(screens=True)

    async def replay_one(self, letter: DeadLetter) -> None:
        """Replay one letter after a question."""
        if not self.session.may_change():
            return
        question = Confirm(
            "Replay this dead letter?",
            f"{clip(escape(letter.job_id), _MAX_KEY_CHARS)} is enqueued at the end of {letter.queue_name} "
            "with all its attempts ahead.",
            "Replay",
        )
        if not await self.app.push_screen_wait(question):
            return
        replay = await self.session.run(self.session.operations.replays.replay(letter.id))
        if replay is not None:
            self.notify(f"replayed as job {clip(escape(replay.job_id), _MAX_KEY_CHARS)}", markup=False)
            self.letters_changed((letter.id,))

    async def replay_many(self, selection: Selection, label: str) -> None:
        """Replay letters by a plan."""
        if not self.session.may_change():
            return
        plan_id = await self.app.push_screen_wait(ReplayDialog(self.session, selection, label))
        if plan_id is not None:
            self.letters_changed(selection)
            self.post_message(OpenPlan(plan_id))

    async def edit(self, letter: DeadLetter) -> None:
        """Replay one letter with another payload."""
        if not self.session.may_change():
            return
        job_key = await self.app.push_screen_wait(EditPayloadDialog(self.session, letter))
        if job_key is not None:
            key = clip(escape(job_key), _MAX_KEY_CHARS)
            self.notify(f"replayed with the new payload as job {key}", markup=False)
            self.letters_changed((letter.id,))

    async def discard(self, selection: Selection, label: str) -> None:
        """Hide letters after a question."""
        if not self.session.may_change():
            return
        preview = await self.session.run(self.session.operations.replays.preview(selection))
        if preview is None:
            return
        if preview.total == 0:
            self.notify(f"nothing of {label} is dead: there is nothing to discard", severity="warning")
            return
        undo = key_name(self, "letters.restore")
        if not await self.app.push_screen_wait(_confirm_discard(preview, label, undo)):
            return
        with self.busy_with(f"discarding {plural(preview.total, 'letter')}"):
            number = await self.session.run(self.letters.discard(preview.selection))
        if number is not None:
            self.notify(f"{plural(number, 'letter')} discarded; {undo} undoes it")
            self.session.last_discard = Discard(preview.selection, number)
            self.letters_changed(selection)

    async def undo_discard(self) -> None:
        """Restore the letters of the last discard; ask if its filter now selects more."""
        if not self.session.may_change():
            return
        last = self.session.last_discard
        if last is None:
            self.notify(with_keys(self, _NOTHING_DISCARDED))
            return
        if isinstance(last.selection, LetterFilter):
            discarded = last.selection.model_copy(update={"state": "discarded"})
            number = await self.session.run(self.letters.count(discarded))
            if number is None:
                return
            if number > last.number and not await self.app.push_screen_wait(_confirm_undo(number, last)):
                return
        if await self._restore(last.selection):
            self.session.last_discard = None

    async def restore(self, selection: Selection) -> None:
        """Make discarded letters dead again; ask if there are several."""
        if not self.session.may_change():
            return
        if isinstance(selection, LetterFilter):
            number = await self.session.run(self.letters.count(selection))
        else:
            number = len(selection)
        if number is None:
            return
        question = Confirm(f"Restore {plural(number, 'letter')}?", "They are dead letters again.", "Restore")
        if number == 1 or await self.app.push_screen_wait(question):
            await self._restore(selection)

    async def _restore(self, selection: Selection) -> bool:
        with self.busy_with("restoring"):
            number = await self.session.run(self.letters.restore(selection))
        if number is None:
            return False
        self.notify(f"{plural(number, 'letter')} restored")
        self.letters_changed(selection)
        return True

    async def archive(self) -> None:
        """Move old letters into the archive: ask from which age on, then once more with their number."""
        if not self.session.may_change():
            return
        question = Prompt(
            "Archive dead letters",
            "Letters that died so many days ago or earlier, in any state; their number is shown first.",
            "count them",
            value=f"{RETENTION_DAYS:g}",
            placeholder="days",
            check=_days_problem,
        )
        answer = await self.app.push_screen_wait(question)
        if answer is not None:
            await self._archive(int(answer))

    async def _archive(self, days: int) -> None:
        with self.busy_with("counting the letters"):
            number = await self.session.run(self.letters.archive(days=days, dry_run=True))
        if number is None:
            return
        age = f"older than {plural(days, 'day')}" if days else "of any age"
        if number == 0:
            self.notify(f"there is no letter {age}: there is nothing to archive", severity="warning")
            return
        confirm = Confirm(
            f"Archive {plural(number, 'letter')}?",
            f"Those {age} move into the archive, where they can be read and replayed: archived:yes.",
            "Archive",
        )
        if not await self.app.push_screen_wait(confirm):
            return
        with self.busy_with(f"archiving {plural(number, 'letter')}"):
            moved = await self.session.run(self.letters.archive(days=days))
        if moved is not None:
            self.notify(f"{plural(moved, 'letter')} archived")
            self.session.refresh(screens=True)

    async def export(self, selection: Selection, label: str) -> None:
        """Write letters to a file."""
        if self.session.remote:
            self.notify(
                "in a browser nothing is exported: run failed-jobs export on the server", severity="warning"
            )
            return
        question = Prompt(
            f"Export {label}",
            "A file that you alone can read; .md for people, .csv for spreadsheets, .jsonl for programs.",
            "write",
            value=suggested_name(),
            check=_target_problem,
        )
        name = await self.app.push_screen_wait(question)
        if name is None:
            return
        path, form = parse_target(name)
        overwrite = path.exists()
        if overwrite and not await self.app.push_screen_wait(_confirm_overwrite(path)):
            return
        write: Callable[[], Awaitable[None]] = partial(self._write, selection, form, path, overwrite)
        self.app.run_worker(write, group="export")

    async def _write(self, selection: Selection, form: ExportFormat, path: Path, overwrite: bool) -> None:
        self.notify(f"writing {escape(path.name)} …", markup=False)
        pieces = (escape_piece(piece, form) async for piece in self.letters.export(selection, form))
        byte_count = await self.session.run(write_file(pieces, path, overwrite=overwrite))
        if byte_count is not None:
            self.notify(f"{byte_size(byte_count)} written to {escape(str(path))}", markup=False)


def ids_of(letters: Sequence[DeadLetter]) -> tuple[int, ...]:
    """Return the letters' ids."""
    return tuple(letter.id for letter in letters)


def _confirm_discard(preview: Preview, label: str, undo: str) -> Confirm:
    others = f" {plural(preview.not_dead, 'letter')} are not dead, and stay as they are."
    return Confirm(
        f"Discard {plural(preview.total, 'letter')}?",
        f"{label[:1].upper()}{label[1:]}: hidden, not deleted; {undo} brings them back."
        f"{others if preview.not_dead else ''}",
        "Discard",
    )


def _confirm_undo(number: int, last: Discard) -> Confirm:
    return Confirm(
        f"Restore {plural(number, 'letter')}?",
        f"{count(last.number)} of them were discarded last, {count(number - last.number)} by another action: "
        "the filter selects them all.",
        "Restore",
    )


def _confirm_overwrite(path: Path) -> Confirm:
    name = clip(escape(str(path)), _MAX_PATH_CHARS)
    return Confirm("Write over this file?", f"{name} exists already.", "Overwrite")


def _days_problem(answer: str) -> str:
    is_valid = answer.isascii() and answer.isdecimal() and int(answer) <= MAX_AGE_DAYS
    return "" if is_valid else f"use a whole number of days, up to {MAX_AGE_DAYS:,}"


def _target_problem(name: str) -> str:
    try:
        parse_target(name)
    except ValueError as error:
        return str(error)
    return ""
