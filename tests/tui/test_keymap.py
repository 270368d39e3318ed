"""The keys by id: those of the settings are shown and work, and mistakes in them are one line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import tui.app
from app.errors import UsageError
from app.process.dashboard import load_keymap
from app.settings import Settings
from tests.support.dashboards import text_of, until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.keys_page import PAGE, keys_page
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.dialogs.help import Help
from tui.keymap import KeymapError, key_entries, parse_keymap
from tui.palette import commands
from workers.operations.operations import Operations

TUI = Path(tui.app.__file__).parent


def test_the_page_of_the_docs_is_that_of_the_code() -> None:
    assert PAGE.read_text() == keys_page(), "make keys writes it"


def test_the_page_has_no_control_characters() -> None:
    assert all(character.isprintable() or character == "\n" for character in keys_page())


def test_each_id_has_keys_and_a_sentence() -> None:
    for entry in key_entries():
        assert entry.keys
        assert entry.sentence[:1].isupper(), entry
        assert entry.sentence.endswith("."), entry
        assert "`" not in entry.sentence, entry


@pytest.mark.parametrize(
    ("text", "keymap"),
    [
        ("", {}),
        ("app.quit=ctrl+q", {"app.quit": "ctrl+q"}),
        (" app.help = f1 , app.help=? ", {"app.help": "f1,question_mark"}),
        ("jobs.abort=X,jobs.remove=x", {"jobs.abort": "X", "jobs.remove": "x"}),
        ("list.mark=m", {"list.mark": "m"}),
        ("app.drain==", {"app.drain": "equals_sign"}),
    ],
)
def test_a_keymap_is_parsed(text: str, keymap: dict[str, str]) -> None:
    assert parse_keymap(text) == keymap


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("quit", "'quit' is not ID=KEY"),
        ("app.quit=", "'app.quit=' is not ID=KEY"),
        ("app.exit=x", "there is no key 'app.exit'"),
        ("app.quit=foo", "app.quit=foo: no key has this name"),
        ("app.quit=hyper+x", "app.quit=hyper+x: no key has this name"),
        ("jobs.abort=X", "jobs.abort=X: this is the key of jobs.remove"),
        ("jobs.abort=f2,jobs.remove=f2", "jobs.abort=f2: this is the key of jobs.remove"),
        ("app.quit=p", "app.quit=p: this is the key of"),
        ("list.mark=A", "list.mark=A: this is the key of"),
        ("prompt.cancel=q", "prompt.cancel=q: this is text there"),
        ("app.redraw=x", "app.redraw=x: this is text there"),
    ],
)
def test_a_mistake_in_a_keymap_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(KeymapError) as caught:
        parse_keymap(text)
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
async def test_footer_help_and_palette_show_the_mapped_key_and_the_old_one_is_free() -> None:
    operations = CannedOperations(HEALTHY)
    keymap = parse_keymap("app.drain=ctrl+d,queues.pause=ctrl+y")
    app = Dashboard(cast(Operations, operations), keymap=keymap)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.pause()
        footer = text_of(app).splitlines()[-1]
        assert "^d Drain" in footer
        assert "D Drain" not in footer
        assert any(c.name == "Drain" and c.help.startswith("^d ·") for c in commands(app, app.screen))
        assert "^y pause" in text_of(app)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        await pilot.pause()
        assert "^y" in text_of(app)
        await pilot.press("escape", "D")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        await pilot.press("ctrl+d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))


def _texts(path: Path) -> Iterator[str]:
    """The texts of a module, without docstrings and bindings."""
    tree = ast.parse(path.read_text())
    bindings = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) == "Binding")
    skipped = {id(part) for node in bindings for part in ast.walk(node)}
    skipped |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


@pytest.mark.slow
def test_no_text_names_a_key_by_itself_since_a_keymap_may_change_it() -> None:
    named = re.compile(r"(?:^|[ ;:,(·])(?:esc|escape|space|[b-zB-Z!?]) [a-z]{2,}|\((?:[a-z]|esc|ctrl\+.)\)")
    found = [text for path in TUI.rglob("*.py") for text in _texts(path) if named.search(text)]
    assert not found, "with_keys and key_name name keys as they are mapped"


@pytest.mark.slow
def test_each_id_in_a_text_has_a_key() -> None:
    texts = [text for path in TUI.rglob("*.py") for text in _texts(path)]
    ids = {name for text in texts for name in re.findall(r"\{([a-z-]+\.[A-Za-z-]+)\}", text)}
    calls = "".join(re.findall(r"\bkey(?:_name)?\([^()]*\)", _source()))
    ids |= set(re.findall(r"""["']([a-z-]+\.[A-Za-z-]+)["']\)""", calls))
    assert len(ids) > 40
    assert ids <= {entry.id for entry in key_entries()}


def _source() -> str:
    return "".join(path.read_text() for path in TUI.rglob("*.py"))


@pytest.mark.parametrize(
    ("keys", "hint", "name"),
    [
        (("space",), "f2 goes on", "app.freeze"),
        pytest.param(("a",), "f2 close", "alerts.close", marks=pytest.mark.slow),
        (("s",), "f2 leave", "order.leave"),
        pytest.param(("question_mark",), "f2 close", "help.close", marks=pytest.mark.slow),
        (("p",), "f2 cancel", "prompt.cancel"),
        pytest.param(("D",), "Drain (f2)", "confirm.yes", marks=pytest.mark.slow),
        pytest.param(("2", "R"), "Leave (f2)", "replay-options.leave", marks=pytest.mark.slow),
        (("3", "e"), "Leave (f2)", "enqueue.leave"),
    ],
)
async def test_hints_name_the_keys_as_they_are_mapped(keys: tuple[str, ...], hint: str, name: str) -> None:
    pressed = ["f2" if name == "app.freeze" else key for key in keys]
    app = Dashboard(cast(Operations, CannedOperations(HEALTHY)), keymap=parse_keymap(f"{name}=f2"))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press(*pressed)
        await until(pilot, lambda: hint in text_of(app))


def test_a_mistake_in_the_setting_ends_the_start_with_its_name() -> None:
    with pytest.raises(UsageError) as caught:
        load_keymap(Settings(keymap="app.quit=p"))
    assert str(caught.value).startswith("COUTURECAST_KEYMAP: app.quit=p: this is the key of ")
    assert load_keymap(Settings(keymap="app.quit=ctrl+q")) == {"app.quit": "ctrl+q"}
