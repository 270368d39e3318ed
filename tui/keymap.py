"""The keys: an id for each binding, so that the settings can change it, and a sentence for the help."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

from textual.app import App
from textual.binding import ActiveBinding, Binding, BindingsMap, BindingType
from textual.content import Content
from textual.dom import DOMNode
from textual.keys import Keys, _character_to_key, key_to_character
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable

from workers.errors import WorkersError

_SUBJECTS = (
    ("tui.screens.base", "app"),
    ("tui.screens.dead_letters", "letters"),
    ("tui.screens.overview", "queues"),
    ("tui.screens.paged", "list"),
    ("tui.screens.replays", "plans"),
    ("tui.widgets.filter_bar", "filter"),
    ("tui.widgets.jump", "jump"),
    ("tui.widgets.queue_table", "queues"),
    ("tui.widgets", "list"),
)
"""By the beginning of a module's name; other screens and dialogs have the name of their folder or file."""
_IDS = {
    "answer(False)": "confirm.no",
    "answer(True)": "confirm.yes",
    "app.focus_next": "app.focus-next",
    "app.focus_previous": "app.focus-previous",
    "app.pop_screen": "app.back",
    "mark(-1, True)": "list.mark-up",
    "mark(1)": "list.mark",
    "mark(1, True)": "list.mark-down",
    "screen.evict": "cache.evict",
    "screen.replay": "letters.replay",
    "screen.tab(-1)": "jobs.tab-previous",
    "screen.tab(1)": "jobs.tab-next",
    "select_cursor": "list.open",
}
"""Ids of actions whose name is another word."""
_OLD_NAMES = {"requeue": "put_back", "requeue_worker": "put_back_worker"}
"""Actions whose ids keep their old name: keymaps of operators have it."""
_SENTENCES = {
    "app.focus_next": "Go to the next list or field.",
    "app.focus_previous": "Go to the list or field before.",
    "app.pop_screen": "Go back to the screen before.",
    "change('abort')": "Cancel jobs that run or wait; they leave no dead letter.  Asks once.",
    "change('duplicate')": "Enqueue jobs once more, under new keys.",
    "change('remove')": "Delete the records of jobs, for good.  Asks once.",
    "change('run-now')": "Move jobs to the head of their queue.  Asks once.",
    "command_palette": "Search all that can be done here, and do it.",
    "quit": "Drain, then quit.  Asks once if jobs are in flight.",
    "answer(False)": "Leave everything as it is.",
    "answer(True)": "Do it.",
    "mark(-1, True)": "Mark the row under the cursor, and go up.",
    "mark(1)": "Mark the row under the cursor, or unmark it; the next action applies to all marked.",
    "mark(1, True)": "Mark the row under the cursor, and go down.",
    "open_job": "Open the job under the cursor.",
    "page(-1)": "Show the page before.",
    "page(1)": "Show the next page.",
    "range(-1)": "Let the charts show a shorter time.",
    "range(1)": "Let the charts show a longer time.",
    "reload": "Read again what is shown.",
    "screen.evict": "Evict the marked entries, else the one under the cursor.  Asks once.",
    "screen.replay": "Replay the marked letters, the one under the cursor, or the group.  Asks once.",
    "screen.tab(-1)": "Show the list before.",
    "screen.tab(1)": "Show the next list.",
    "select_cursor": "Open the row under the cursor.",
    "state(-1)": "Show the letters of the state before.",
    "tab(-1)": "Show the list before.",
    "tab(1)": "Show the next list.",
}
"""For actions whose method is not ours, or serves several keys."""
_WORDS = {"app.focus_next": "Next list"}
"""For Textual's own keys."""
_MOVES = ("move(", "cursor_", "scroll_")
"""Actions that only move the cursor, or scroll."""
_TYPED = ("edit-payload", "filter", "prompt", "replay-options")
"""Subjects that have a field: a character is text there, and no key."""
_STEPS = {"1": "next", "-1": "previous"}
_MODIFIERS = {"alt", "ctrl", "shift", "super"}
_NAMED_KEYS = {key.value for key in Keys}
_PLACEHOLDER = re.compile(r"\{([a-z-]+\.[A-Za-z-]+)\}")
"""A key in a text: the id of its binding."""


class KeymapError(WorkersError):
    """The keymap of the settings cannot be used."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One id: its keys as they are without a keymap, and what they do."""

    id: str
    keys: tuple[str, ...]
    sentence: str


_STANDARD = {
    (binding.key, binding.action)
    for _, binding in BindingsMap(DataTable.BINDINGS)
    if binding.action != "select_cursor"
}
"""Keys of a table that only move the cursor or scroll: they have no id, and the help does not list them."""


def word(binding: Binding) -> str:
    """Return what a key does, in a word or two."""
    return _WORDS.get(binding.action, binding.description)


def sentence(node: DOMNode | type[DOMNode], binding: Binding) -> str:
    """Return what a key does, in one sentence: that of its action's docstring."""
    if explanation := binding.tooltip or _SENTENCES.get(binding.action):
        return explanation.replace("  ", " ")
    name = binding.action.partition("(")[0].rpartition(".")[2]
    method = getattr(node, f"action_{name}", None)
    text = inspect.getdoc(method) if method is not None else None
    paragraph = (text or f"{binding.description}.").partition("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph)


def is_listed(active: ActiveBinding) -> bool:
    """Return whether help and palette list a key; that of the next field only if there is one."""
    node, binding = active.node, active.binding
    if binding.action == "app.focus_next" and isinstance(node, Screen) and len(node.focus_chain) < 2:
        return False
    return active.enabled and (binding.id is not None or binding.action == "app.focus_next")


def help_sections(app: App[Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the active keys of this screen, and of all, with a word and a sentence each."""
    here: dict[tuple[str, str], list[str]] = {}
    everywhere: dict[tuple[str, str], list[str]] = {}
    for node, binding, enabled, tooltip in app.screen.active_bindings.values():
        if is_listed(ActiveBinding(node, binding, enabled, tooltip)):
            section = everywhere if node is app else here
            keys = section.setdefault((word(binding), sentence(node, binding)), [])
            keys.append(app.get_key_display(binding))
    sections = (("On this screen", here), ("On every screen", everywhere))
    return [
        (title, [(" ".join(dict.fromkeys(keys)), *words) for words, keys in section.items()])
        for title, section in sections
        if section
    ]


def key_name(node: DOMNode, name: str) -> str:
    """Return the first key of an id as it is mapped now, by the name that it has on the screen."""
    app = node.app
    binding = _first_bindings()[name]
    if keys := app._keymap.get(name):
        binding = binding.with_key(keys.partition(",")[0])
    return app.get_key_display(binding)


def with_keys(node: DOMNode, text: str) -> str:
    """Return a text of ours with the keys of the ids in braces, as ``{app.drain} drains it``.

    Text from anywhere else must not be part of it: see `key_name`.
    """
    return _PLACEHOLDER.sub(lambda match: key_name(node, match[1]), text)


def label_with_keys(node: DOMNode, text: str) -> Content:
    """Return the same for a button, which would read its label as markup: a key may be ``[``."""
    return Content(with_keys(node, text))


@cache
def _first_bindings() -> Mapping[str, Binding]:
    """Return by id the binding that names its key."""
    bindings: dict[str, Binding] = {}
    for cls in _own_classes():
        for _, binding in BindingsMap(cls.__dict__.get("BINDINGS", ())):
            bindings.setdefault(binding.id or "", binding)
    return bindings


# Ids


def _binding_id(owner: type[DOMNode], binding: Binding) -> str | None:
    moves = binding.action.startswith(_MOVES) or (binding.key, binding.action) in _STANDARD
    if binding.id or moves or not binding.description:
        return binding.id
    if binding.action in _IDS:
        return _IDS[binding.action]
    name, _, argument = binding.action.partition("(")
    argument = argument.rstrip(")").strip("'")
    definer = next((base for base in reversed(owner.__mro__) if f"action_{name}" in base.__dict__), owner)
    module = definer.__module__ if definer.__module__.startswith("tui.") else owner.__module__
    if name == "change":
        return f"{_subject(module)}.{argument}"
    words = [*_OLD_NAMES.get(name, name).split("_"), *([_STEPS.get(argument, argument)] if argument else [])]
    return f"{_subject(module)}.{'-'.join(words)}"


def _subject(module: str) -> str:
    subject = next((subject for prefix, subject in _SUBJECTS if module.startswith(prefix)), None)
    return subject or (*module.split("."), "app")[2].replace("_", "-")


def _own_classes() -> list[type[DOMNode]]:
    """Return our classes that have keys, bases first."""
    classes: dict[type[DOMNode], None] = {}

    def visit(cls: type[DOMNode]) -> None:
        for child in cls.__subclasses__():
            if child.__module__.startswith("tui."):
                classes[child] = None
            visit(child)

    visit(DOMNode)
    return sorted(classes, key=lambda cls: len(cls.__mro__))


def name_bindings() -> None:
    """Give each binding of our classes its id; Textual's keymap goes by them."""
    for cls in (classes := _own_classes()):
        if own := cls.__dict__.get("BINDINGS"):
            bindings: list[BindingType] = [
                replace(binding, id=_binding_id(cls, binding)) for binding in Binding.make_bindings(own)
            ]
            cls.BINDINGS = bindings
    for cls in classes:
        cls._merged_bindings = cls._merge_bindings()


def key_entries() -> list[KeyEntry]:
    """Return all ids, by name, with the keys of all classes, and the longest of their sentences."""
    entries: dict[str, KeyEntry] = {}
    for cls in _own_classes():
        for _, binding in BindingsMap(cls.__dict__.get("BINDINGS", ())):
            if binding.id is None:
                continue
            entry = entries.get(binding.id) or KeyEntry(binding.id, (), "")
            keys = tuple(dict.fromkeys((*entry.keys, binding.key)))
            longest = max(entry.sentence, sentence(cls, binding), key=len)
            entries[binding.id] = KeyEntry(binding.id, keys, longest)
    return [entries[name] for name in sorted(entries)]


# The keymap of the settings


def parse_keymap(text: str) -> dict[str, str]:
    """Parse ``app.quit=ctrl+q,jobs.abort=X``; an id that comes twice has both keys.  Raises KeymapError."""
    keymap: dict[str, list[str]] = {}
    ids = {entry.id for entry in key_entries()}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, key = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise KeymapError(f"{part!r} is not ID=KEY", fix="use for instance app.quit=ctrl+q")
        if name not in ids:
            raise KeymapError(f"there is no key {name!r}", fix="docs/keys.md lists the ids")
        keymap.setdefault(name, []).append(_parse_key(part, key))
    result = {name: ",".join(keys) for name, keys in keymap.items()}
    _check_conflicts(result)
    return result


def _parse_key(part: str, text: str) -> str:
    *modifiers, base = text.split("+") if len(text) > 1 else [text]
    key = "+".join([*modifiers, _character_to_key(base) if len(base) == 1 else base])
    is_known = key in _NAMED_KEYS or base in _NAMED_KEYS or key_to_character(key.rpartition("+")[2])
    if not is_known or not set(modifiers) <= _MODIFIERS:
        raise KeymapError(f"{part}: no key has this name", fix="use for instance x, X, f5 or ctrl+x")
    return key


def _check_conflicts(keymap: Mapping[str, str]) -> None:
    """Raise KeymapError if two keys that work at the same time would be one, or if a key would be text."""
    for cls in _own_classes():
        for _, binding in BindingsMap(cls.__dict__.get("BINDINGS", ())):
            if binding.priority or (binding.id or "").partition(".")[0] in _TYPED:
                _check_no_text(binding.id or "", keymap)
    conflict = next(_conflicts(keymap), None)
    if conflict is not None:
        first, second, key = conflict
        mapped, other = (first, second) if first in keymap else (second, first)
        raise KeymapError(f"{mapped}={key}: this is the key of {other}", fix=f"give {other} another one, too")


def _check_no_text(name: str, keymap: Mapping[str, str]) -> None:
    """Raise KeymapError for a key that types a character: this binding works in an input."""
    for key in filter(None, keymap.get(name, "").split(",")):
        if key_to_character(key) is not None:
            raise KeymapError(f"{name}={key}: this is text there", fix="use for instance ctrl+x")


def _conflicts(keymap: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of ids that this keymap gives the same key, and that key."""
    classes = _own_classes()
    before = {cls: _keys_by_id(cls, {}) for cls in classes}
    after = {cls: _keys_by_id(cls, keymap) for cls in classes}
    for cls, other in product(classes, repeat=2):
        if cls is not other and not _shown_together(cls, other):
            continue
        for (first, keys), (second, others) in product(after[cls].items(), after[other].items()):
            changed = first in keymap or second in keymap
            intended = before[cls][first] & before[other][second]
            if first != second and changed and not intended and (both := keys & others):
                yield first, second, min(both)


def _keys_by_id(cls: type[DOMNode], keymap: Mapping[str, str]) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = {}
    for key, binding in cls._merged_bindings or ():
        if binding.id is not None:
            mapped = keymap.get(binding.id)
            keys.setdefault(binding.id, set()).update([key] if mapped is None else mapped.split(","))
    return keys


def _shown_together(cls: type[DOMNode], other: type[DOMNode]) -> bool:
    """Return whether the keys of both may work at the same time."""
    if issubclass(cls, App):
        return not issubclass(other, ModalScreen)
    if not issubclass(cls, Screen) or issubclass(other, Screen | App):
        return False
    # A screen's widgets are those that its modules import.
    return any(other in vars(sys.modules[base.__module__]).values() for base in cls.__mro__)
