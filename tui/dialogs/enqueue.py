"""A new job: a form made of its queue's schema, or JSON for a team's own handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static, TextArea

from tui.dialogs.confirm import Confirm
from tui.keymap import label_with_keys
from tui.session import Session, one_line
from tui.text.format import clip, escape
from tui.text.payload_form import FormField, form_fields, parse_form
from tui.widgets.message_line import MessageLine
from workers.engine.json_input import parse_object
from workers.errors import InvalidJsonError
from workers.operations.operations import MAX_DELAY_SECONDS

_MAX_LABEL_CHARS = 15
_KEY = FormField("key", "text", required=False, help="of the job; one is made if this is empty")
_DELAY = FormField("delay", "number", required=False, help="seconds until it may start")
_HINT = "* is needed · tab, shift+tab: next, previous field"
_AS_JSON = "\0json"
"""Under which the text of a whole payload is kept."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """The job that was enqueued; ``opens``: the operator asked to see it."""

    queue: str
    key: str
    opens: bool


class FieldInput(Vertical):
    """A field: its name, what is typed, and below that its help or what is wrong with it."""

    def __init__(self, field: FormField, typed: str) -> None:
        super().__init__(classes="form-field")
        self.field = field
        self._typed_before = typed

    def compose(self) -> ComposeResult:
        """Compose the name, the input and a line."""
        field = self.field
        label = f"{clip(escape(field.name), _MAX_LABEL_CHARS - 2)}{' *' if field.required else ''}"
        with Horizontal():
            yield Label(label, markup=False)
            if field.kind == "choice":
                is_choice = self._typed_before in field.choices
                yield Select(
                    [(Text(escape(choice)), choice) for choice in field.choices],
                    prompt="choose",
                    value=self._typed_before if is_choice else Select.NULL,
                    compact=True,
                )
            else:
                yield Input(self._typed_before, compact=True)
        yield MessageLine(escape(field.help))

    @property
    def typed(self) -> str:
        """The value that was typed or selected."""
        for select in self.query(Select):
            return select.value if isinstance(select.value, str) else ""
        for field in self.query(Input):
            return field.value
        return self._typed_before  # it is not composed yet

    def show_problem(self, problem: str) -> None:
        """Show what is wrong, or if nothing is the help."""
        for line in self.query(MessageLine):
            line.show_error(one_line(problem)) if problem else line.show(escape(self.field.help))


class EnqueueDialog(ModalScreen[NewJob | None]):
    """Each field is checked as it is typed; what was typed stays whatever fails, also for each queue."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Without priority: what was typed before reaches its field before they act, however late the loop is.
        Binding("ctrl+s", "enqueue(False)", "Enqueue"),
        Binding("ctrl+o", "enqueue(True)", "Enqueue and open"),
        Binding("escape", "leave", "Leave"),
        # With priority, so that what is typed ahead goes to the next field, also if the event loop is late.
        Binding("tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Previous field", show=False, priority=True),
        Binding("up", "app.focus_previous", "Previous field", show=False),
        Binding("down", "app.focus_next", "Next field", show=False),
    ]

    def __init__(self, session: Session, queues: Sequence[str], queue: str) -> None:
        super().__init__()
        self.session = session
        self._queues = queues
        self._queue = queue
        self._jobs = session.operations.jobs
        self._fields: list[FormField] | None = None
        """None for a queue without a schema."""
        self._typed: dict[str, dict[str, str]] = {}
        """By queue and field, of the queues that were shown before."""
        self._refused: dict[str, str] = {}
        """The input that the message is about: it stays until something else is typed."""
        self._touched: set[str] = set()
        """Fields of the queue in which something was typed: only then can an empty one be an error."""

    def compose(self) -> ComposeResult:
        """Compose the queue, its fields, a message, and the buttons."""
        with Vertical(classes="dialog wide form"):
            yield Static("Enqueue a job", classes="title")
            with Horizontal(id="form-queue"):
                yield Label("queue")
                queues = [(Text(escape(name)), name) for name in self._queues]
                yield Select(queues, value=self._queue, allow_blank=False, compact=True, id="queue")
            yield VerticalScroll(id="form-fields", can_focus=False)
            yield MessageLine(_HINT, id="message")
            with Horizontal(classes="buttons"):
                yield Button(
                    label_with_keys(self, "Enqueue ({enqueue.enqueue-False})"),
                    id="enqueue",
                    variant="primary",
                    compact=True,
                )
                yield Button(
                    label_with_keys(self, "Enqueue and open ({enqueue.enqueue-True})"),
                    id="open",
                    compact=True,
                )
                yield Button(label_with_keys(self, "Leave ({enqueue.leave})"), id="leave", compact=True)

    async def on_mount(self) -> None:
        """Show the fields of the queue."""
        await self._show_fields()

    async def _show_fields(self) -> None:
        """Replace the fields by those of the queue, with what was typed there before."""
        schema = self._jobs.payload_schema(self._queue)
        typed = self._typed.get(self._queue, {})
        self._fields = None if schema is None else form_fields(schema)
        self._touched = {name for name, text in typed.items() if text}
        body = self.query_one("#form-fields", VerticalScroll)
        await body.remove_children()
        about = Static(
            "The handler of this queue is your own: any JSON object.", markup=False, classes="form-about"
        )
        widgets: list[Any] = [
            about,
            TextArea(typed.get(_AS_JSON, "{}"), tab_behavior="focus", id="form-json"),
        ]
        if schema is not None and self._fields is not None:
            about.update(escape(" ".join(str(schema.get("description", "")).split())))
            widgets = [about, *(FieldInput(field, typed.get(field.name, "")) for field in self._fields)]
        # A payload may have fields with these names, so they come apart from it.
        rest = [FieldInput(_KEY, typed.get("\0key", "")), FieldInput(_DELAY, typed.get("\0delay", ""))]
        await body.mount(*widgets, *rest)
        focusable = body.query("Input, Select, TextArea")
        if focusable:
            focusable.first().focus()
        self._check()

    @on(Select.Changed, "#queue")
    async def show_queue(self, event: Select.Changed) -> None:
        """Show the form of another queue."""
        event.stop()
        if isinstance(event.value, str) and event.value != self._queue:
            self._typed[self._queue] = self._all_typed()
            self._queue = event.value
            await self._show_fields()

    @on(Input.Changed)
    @on(Select.Changed)
    @on(TextArea.Changed)
    def check_again(self, event: Input.Changed | Select.Changed | TextArea.Changed) -> None:
        """Check what was typed."""
        parents = [parent for parent in event.control.ancestors if isinstance(parent, FieldInput)]
        if parents and parents[0].typed:
            self._touched.add(parents[0].field.name)
        if self._all_typed() != self._refused:
            self._message.show(_HINT)
        self._check()

    # What was typed

    @property
    def _inputs(self) -> list[FieldInput]:
        return list(self.query(FieldInput))

    def _all_typed(self) -> dict[str, str]:
        typed: dict[str, str] = {}
        for field_input in self._inputs:
            name = field_input.field.name
            typed[f"\0{name}" if field_input.field in (_KEY, _DELAY) else name] = field_input.typed
        for area in self.query(TextArea):
            typed[_AS_JSON] = area.text
        return typed

    def _parse(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the payload, and what is wrong by field."""
        typed = self._all_typed()
        if self._fields is None:
            try:
                payload = parse_object(typed.get(_AS_JSON, ""))
            except InvalidJsonError as error:
                return {}, {"": str(error)}
            return payload, self._jobs.payload_problems(self._queue, payload)
        payload, problems = parse_form(self._fields, typed)
        others = self._jobs.payload_problems(self._queue, payload)
        return payload, {name: text for name, text in others.items() if name not in problems} | problems

    def _delay(self) -> tuple[float, str]:
        text = self._all_typed().get("\0delay", "").strip()
        try:
            delay = float(_DELAY.parse(text)) if text else 0.0
        except ValueError as error:
            return 0.0, str(error)
        return (delay, "") if 0 <= delay <= MAX_DELAY_SECONDS else (0.0, "use 0 seconds to a year")

    def _check(self, *, every: bool = False) -> dict[str, str]:
        """Show what is wrong with the fields that were filled in, or with every one; all problems."""
        _, problems = self._parse()
        _, delay_problem = self._delay()
        for field_input in self._inputs:
            if field_input.field is _DELAY:
                field_input.show_problem(delay_problem)
            elif field_input.field is not _KEY:
                is_shown = every or field_input.field.name in self._touched
                field_input.show_problem(problems.get(field_input.field.name, "") if is_shown else "")
        return problems | ({"delay": delay_problem} if delay_problem else {})

    # Keys

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Enqueue or leave, by mouse or enter."""
        if event.button.id == "leave":
            self.action_leave()
        else:
            self.action_enqueue(event.button.id == "open")

    def on_input_submitted(self) -> None:
        """Go to the next field: enter in one."""
        self.focus_next()

    @work(exclusive=True, group="enqueue")
    async def action_enqueue(self, opens: bool) -> None:
        """Enqueue the job, unless something is wrong with it; what was typed stays then."""
        problems = self._check(every=True)
        self._refused = self._all_typed()
        if problems:
            self._message.show_error(one_line(_first(problems)))
            wrong = [field_input for field_input in self._inputs if field_input.field.name in problems]
            if wrong:
                wrong[0].query_one("Input, Select").focus()
            return
        payload, _ = self._parse()
        delay, _ = self._delay()
        key = self._all_typed().get("\0key") or None
        self._message.show("enqueueing …")
        errors: list[str] = []
        enqueued_key = await self.session.run(
            self.session.operations.queues.enqueue(self._queue, payload, key=key, delay=delay),
            on_error=errors.append,
        )
        if enqueued_key is not None:
            self.dismiss(NewJob(self._queue, enqueued_key, opens))
        elif self.is_running:
            message = f"key: {key} waits or runs in {self._queue} already: use another one"
            self._message.show_error(errors[0] if errors else one_line(message))

    @work(exclusive=True, group="leave")
    async def action_leave(self) -> None:
        """Close the dialog; ask if something was typed."""
        if any(worker.group == "enqueue" and worker.is_running for worker in self.workers):
            return
        self._typed[self._queue] = self._all_typed()
        pristine = ("", "{}")
        typed = any(text not in pristine for texts in self._typed.values() for text in texts.values())
        question = Confirm("Leave without a job?", "What you typed will be lost.", "Leave")
        if not typed or await self.app.push_screen_wait(question):
            self.dismiss(None)

    @property
    def _message(self) -> MessageLine:
        return self.query_one("#message", MessageLine)


def _first(problems: Mapping[str, str]) -> str:
    """Return the first problem with its field, and how many others there are."""
    name, problem = next(iter(problems.items()))
    more = f" · and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{f'{name}: ' if name else ''}{problem}{more}"
