"""Output to a terminal without UTF-8: ASCII of the same width, for any text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import tui
from tui.text.format import gauge, sparkline
from tui.text.glyphs import SCREEN_ERRORS, TEXT_ERRORS, is_utf8

OURS = {
    sign
    for path in Path(tui.__file__).parent.rglob("*.py")
    for sign in re.findall(r"[^\x00-\x7f]", path.read_text())
} - {"‮"}


def sent(text: str, errors: str = SCREEN_ERRORS, encoding: str = "ascii") -> str:
    return text.encode(encoding, errors).decode(encoding)


@pytest.mark.parametrize("sign", sorted(OURS))
def test_our_signs_have_an_ascii_form_of_one_cell(sign: str) -> None:
    assert len(sent(sign)) == len(sent(sign, TEXT_ERRORS)) == cell_len(sign) == 1
    assert sent(sign) != "?"


def test_bars_and_sparklines_keep_their_meaning() -> None:
    assert sent(gauge(3, 10, 10)) == "###......."
    assert len(set(sent(sparkline(list(range(9)), 9)).strip())) == 8


def test_states_have_signs_of_their_own() -> None:
    assert len({sent(sign) for sign in "●◐▲‖◌↻▸○✔✕"}) == 10


def test_signs_of_the_encoding_are_kept() -> None:
    assert sent("é·█", encoding="latin-1") == "é·#"


def test_output_escapes_characters_without_an_ascii_form() -> None:
    assert sent("Kürbis …", TEXT_ERRORS) == "K\\xfcrbis ~"


@given(st.text(st.characters(exclude_characters="\u200d\ufe0f")))
def test_replaced_lines_keep_their_width(text: str) -> None:
    """Joiners and variation selectors change the width of what stands beside them: they are left out."""
    for run in re.findall(r"[^\x00-\x7f]+", text):
        assert len(sent(run)) == cell_len(run)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@given(text=st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_can_be_written_in_any_encoding(encoding: str, text: str) -> None:
    for errors in (SCREEN_ERRORS, TEXT_ERRORS):
        sent(text, errors, encoding)


def test_utf_8_has_many_names() -> None:
    assert all(map(is_utf8, ("UTF-8", "utf8", "utf_8")))
    assert not any(map(is_utf8, ("", "ascii", "ISO-8859-1")))
