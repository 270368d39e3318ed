"""What can be done with dead letters, on every view that shows some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from tui.dialogs.common import Ask, Confirm
from tui.dialogs.edit_payload import Edit
from tui.dialogs.plan import Progress
from tui.dialogs.replay_options import PlanForm
from tui.screens.acting import Acting
from tui.screens.dead_letters.export import Form, exported, suggested_name, target
from tui.text.format import byte_size, clip, count, escape
from tui.text.words import plural
from tui.widgets.letter_table import LetterTable
from workers.operations.operations import DeadLetter, DeadLetterOperations, LetterFilter, Preview, Selection

_KEY = 60
"""Characters of a job's key in a question: foreign producers may choose thousands."""


class Acts(Acting):
    """Each act asks once, says what will happen to how many, and then has the lists read anew."""

    @property
    def letters(self) -> DeadLetterOperations:
        """The verbs."""
        return self.dashboard.operations.letters

    def acted(self, wanted: Selection) -> None:
        """These letters were acted on."""
        self.dashboard.look_again(letters=True)

    def on_letter_table_opened(self, message: LetterTable.Opened) -> None:
        """All of one letter."""
        from tui.screens.dead_letters.letter import LetterView

        self.app.push_screen(LetterView(message.letter))

    async def replay_one(self, letter: DeadLetter) -> None:
        """Replay one letter after a question that says what will happen."""
        question = Confirm(
            "Replay this dead letter?",
            f"{clip(escape(letter.job_id), _KEY)} goes to the end of {letter.queue_name} "
            "with all its attempts ahead.",
            "Replay",
        )
        if not await self.app.push_screen_wait(question):
            return
        done = await self.dashboard.attempt(self.letters.replay(letter.id))
        if done is not None:
            self.notify(f"replayed as job {clip(escape(done), _KEY)}", markup=False)
            self.acted((letter.id,))

    async def replay_many(self, wanted: Selection, what: str) -> None:
        """Replay letters by a plan."""
        plan_id = await self.app.push_screen_wait(PlanForm(wanted, what))
        if plan_id is not None:
            self.acted(wanted)
            await self.app.push_screen_wait(Progress(plan_id))
            self.dashboard.look_again(letters=True)

    async def edit(self, letter: DeadLetter) -> None:
        """Replay one letter with another payload."""
        done = await self.app.push_screen_wait(Edit(letter))
        if done is not None:
            self.notify(f"replayed with the new payload as job {clip(escape(done), _KEY)}", markup=False)
            self.acted((letter.id,))

    async def discard(self, wanted: Selection, what: str) -> None:
        """Hide letters after a question that says how many."""
        found = await self.dashboard.attempt(self.letters.preview(wanted))
        if found is None:
            return
        if found.total == 0:
            self.notify(f"nothing of {what} is dead: there is nothing to discard", severity="warning")
            return
        if not await self.app.push_screen_wait(_discards(found, what)):
            return
        with self.busy(f"discarding {plural(found.total, 'letter')}"):
            discarded = await self.dashboard.attempt(self.letters.discard(found.wanted))
        if discarded is not None:
            self.notify(f"{plural(discarded, 'letter')} discarded; u undoes it")
            self.dashboard.discarded = (found.wanted, discarded)
            self.acted(wanted)

    async def restore_last(self) -> None:
        """Undo what was discarded last; ask where a filter would bring back more than that."""
        if self.dashboard.discarded is None:
            self.notify("nothing was discarded from here: s shows discarded letters, u restores those")
            return
        wanted, number = self.dashboard.discarded
        if isinstance(wanted, LetterFilter):
            hidden = await self.dashboard.attempt(
                self.letters.count(wanted.model_copy(update={"state": "discarded"}))
            )
            if hidden is None:
                return
            if hidden > number and not await self.app.push_screen_wait(
                Confirm(
                    f"Restore {plural(hidden, 'letter')}?",
                    f"{count(number)} of them were discarded last, {count(hidden - number)} by another act: "
                    "the filter means them all.",
                    "Restore",
                )
            ):
                return
        if await self._restored(wanted):
            self.dashboard.discarded = None

    async def restore(self, wanted: Selection) -> None:
        """Discarded letters are dead again."""
        number = (
            await self.dashboard.attempt(self.letters.count(wanted))
            if isinstance(wanted, LetterFilter)
            else len(wanted)
        )
        if number is None:
            return
        question = Confirm(f"Restore {plural(number, 'letter')}?", "They are dead letters again.", "Restore")
        if number == 1 or await self.app.push_screen_wait(question):
            await self._restored(wanted)

    async def _restored(self, wanted: Selection) -> bool:
        with self.busy("restoring"):
            number = await self.dashboard.attempt(self.letters.restore(wanted))
        if number is None:
            return False
        self.notify(f"{plural(number, 'letter')} restored")
        self.acted(wanted)
        return True

    async def export(self, wanted: Selection, what: str) -> None:
        """Write letters into a file."""
        question = Ask(
            f"Export {what}",
            "Into a file that you alone can read; .md for people, .jsonl for programs.",
            "write",
            value=suggested_name(),
            problem=_name_problem,
        )
        name = await self.app.push_screen_wait(question)
        if name is None:
            return
        path, form = target(name)
        overwrite = path.exists()
        if overwrite and not await self.app.push_screen_wait(
            Confirm("Write over this file?", f"{clip(escape(str(path)), 200)} exists already.", "Overwrite")
        ):
            return
        write: Callable[[], Awaitable[None]] = partial(self._write, wanted, form, path, overwrite)
        self.app.run_worker(write, group="export")

    async def _write(self, wanted: Selection, form: Form, path: Path, overwrite: bool) -> None:
        self.notify(f"writing {escape(path.name)} …", markup=False)
        written = await self.dashboard.attempt(
            exported(self.letters.export(wanted, form), path, overwrite=overwrite)
        )
        if written is not None:
            self.notify(f"{byte_size(written)} written to {escape(str(path))}", markup=False)


def ids_of(letters: Sequence[DeadLetter]) -> tuple[int, ...]:
    """Their ids."""
    return tuple(letter.id for letter in letters)


def _discards(found: Preview, what: str) -> Confirm:
    others = f" {plural(found.others, 'letter')} are not dead, and stay as they are." if found.others else ""
    return Confirm(
        f"Discard {plural(found.total, 'letter')}?",
        f"{what[:1].upper()}{what[1:]}: hidden, not deleted; u brings them back.{others}",
        "Discard",
    )


def _name_problem(name: str) -> str:
    try:
        target(name)
    except ValueError as error:
        return str(error)
    return ""
