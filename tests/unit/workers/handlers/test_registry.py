"""Names that COUTURECAST_HANDLERS may have, and the errors of all others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES
from workers.errors import HandlerImportError
from workers.handlers.registry import import_inline_handler, parse_custom_handlers

SETTING = "COUTURECAST_COLOR_EXTRACTION_RUN"
MODULE = '''
class Shop:
    """Its functions may be named too."""

    @staticmethod
    async def dye(ctx, **kwargs):
        """Dye."""


async def cut(ctx, **kwargs):
    """Cut."""


def sew(ctx, **kwargs):
    """Be no coroutine function."""
'''


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a team in the working directory, from which they can be imported."""
    (tmp_path / "atelier.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "wordy.py").write_text("raise ValueError('first\\nsecond')\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("atelier", "broken", "wordy", "exits"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_names_are_found_by_queue() -> None:
    found = parse_custom_handlers(f" {COLOR}=atelier:cut , {ALERT}=atelier:Shop.dye,", DEFAULT_POLICIES)
    assert found == {COLOR: "atelier:cut", ALERT: "atelier:Shop.dye"}
    assert parse_custom_handlers("", DEFAULT_POLICIES) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "colours=atelier:cut",
            "'colours=atelier:cut': use queue=package.module:function with one of weather-",
        ),
        ("atelier:cut", "use queue=package.module:function"),
        (f"{COLOR}=atelier", "'atelier': use package.module:function"),
        (f"{COLOR}=:f", "':f': use package.module:function"),
        (f"{COLOR}=atelier:", "'atelier:': use package.module:function"),
        (f"{COLOR}=atelier/cut.py:f", "'atelier/cut.py:f': use package.module:function"),
        (f"{COLOR}=.atelier:cut", "'.atelier:cut': use package.module:function"),
        (f"{COLOR}=a:f,{COLOR}=b:f", "color-extraction has two handlers: remove a:f or b:f"),
    ],
)
def test_a_name_that_cannot_be_parsed_gives_a_one_line_error(text: str, says: str) -> None:
    with pytest.raises(HandlerImportError) as caught:
        parse_custom_handlers(text, DEFAULT_POLICIES)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(("name", "function"), [("atelier:cut", "cut"), ("atelier:Shop.dye", "dye")])
def test_an_inline_handler_is_imported(name: str, function: str) -> None:
    assert import_inline_handler(name, SETTING).__name__ == function  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:f", "'nowhere:f' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("atelier:press", "'atelier:press' cannot be imported: AttributeError"),
        ("broken:f", "'broken:f' cannot be imported: SyntaxError"),
        ("wordy:f", "'wordy:f' cannot be imported: ValueError: first second"),
        ("exits:f", "'exits:f' cannot be imported: SystemExit: 0"),
        (
            "atelier:sew",
            "'atelier:sew' is not an async function, and cannot run inline: "
            "write async def sew(ctx, **kwargs), or let it run in a process: "
            "remove COUTURECAST_COLOR_EXTRACTION_RUN=inline",
        ),
        ("atelier:Shop", "is not an async function"),
        ("app.colors:f", "in a package with the name of one of ours, and cannot run inline: let it run in a"),
    ],
)
def test_an_unusable_inline_handler_gives_a_one_line_error(name: str, says: str) -> None:
    with pytest.raises(HandlerImportError) as caught:
        import_inline_handler(name, SETTING)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
