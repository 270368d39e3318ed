"""The themes: every text can be read on every surface, and every theme of Textual's works."""

from __future__ import annotations

import itertools
from typing import cast

import pytest
from rich.color import Color as TerminalColor
from rich.terminal_theme import TerminalTheme
from textual.color import Color
from textual.geometry import Region
from textual.theme import BUILTIN_THEMES

import tui.theme
from tests.support.dashboards import dashboard, settled
from tests.support.fake_busy import busy
from tests.support.fake_moments import BREACHED
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.text import styles
from tui.theme import (
    ANSI,
    DARK,
    LIGHT,
    MIN_CONTRAST,
    PALETTES,
    add_meanings,
    default_theme,
    style_names,
    themes,
)
from workers.operations.operations import Operations

XTERM = TerminalTheme(
    (0, 0, 0),
    (229, 229, 229),
    [
        (0, 0, 0),
        (205, 0, 0),
        (0, 205, 0),
        (205, 205, 0),
        (0, 0, 238),
        (205, 0, 205),
        (0, 205, 205),
        (229,) * 3,
    ],
    [
        (127,) * 3,
        (255, 0, 0),
        (0, 255, 0),
        (255, 255, 0),
        (92, 92, 255),
        (255, 0, 255),
        (0, 255, 255),
        (255,) * 3,
    ],
)
NAMES = (styles.OK, styles.WATCH, styles.BREACH, styles.PAUSED, styles.MUTED, styles.ACCENT, styles.RULE)


def rgb(color: str) -> Color:
    if color.startswith("ansi_"):
        return Color(*TerminalColor.parse(color.removeprefix("ansi_")).get_truecolor(XTERM))
    return Color.parse(color)


def contrast(one: str, other: str) -> float:
    return tui.theme.contrast(rgb(one), rgb(other))


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("name", PALETTES)
def test_every_text_has_contrast_on_every_surface(name: str) -> None:
    palette = PALETTES[name]
    for (text, color), (surface, background) in itertools.product(
        palette.texts.items(), palette.surfaces.items()
    ):
        assert contrast(color, background) >= MIN_CONTRAST, (text, surface)


@pytest.mark.parametrize("name", PALETTES)
def test_text_on_the_accent_has_contrast(name: str) -> None:
    palette = PALETTES[name]
    assert contrast(palette.background, palette.accent) >= MIN_CONTRAST


@pytest.mark.parametrize("name", [name for name in BUILTIN_THEMES if not name.startswith("ansi")])
def test_what_has_a_meaning_can_be_read_in_every_theme_of_textual(name: str) -> None:
    variables = BUILTIN_THEMES[name].to_color_system().generate()
    shown = add_meanings(variables | BUILTIN_THEMES[name].variables)
    for meaning, surface in itertools.product(NAMES, ("background", "surface", "selected")):
        if meaning != styles.RULE:
            assert contrast(shown[meaning], shown[surface]) >= MIN_CONTRAST, (meaning, surface)


@pytest.mark.parametrize("name", [*BUILTIN_THEMES, *PALETTES])
def test_every_theme_has_every_meaning(name: str) -> None:
    theme = {**BUILTIN_THEMES, **{theme.name: theme for theme in themes()}}[name]
    variables = add_meanings(theme.to_color_system().generate() | theme.variables)
    names = style_names(variables, no_color=False)
    assert all(names.styles[meaning].color is not None for meaning in NAMES)


def test_without_colours_a_breach_is_bold() -> None:
    variables = add_meanings(themes()[0].to_color_system().generate() | themes()[0].variables)
    assert style_names(variables, no_color=True).styles[styles.BREACH].bold
    assert not style_names(variables, no_color=True).styles[styles.OK].bold


def test_a_terminal_of_16_colours_gets_the_theme_of_16_colours() -> None:
    assert default_theme("standard") == ANSI
    assert [default_theme(system) for system in ("256", "truecolor", None)] == [DARK] * 3


@pytest.mark.parametrize("name", ["nord", "textual-light", ANSI])
async def test_a_theme_can_be_changed_while_the_dashboard_is_open(name: str) -> None:
    app = Dashboard(cast(Operations, CannedOperations(BREACHED)))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        app.theme = name
        await pilot.pause()
        await pilot.press("2", "5", "1")
        await pilot.pause()
        assert app.session.state.get("theme") == name


async def test_a_change_of_the_theme_paints_everything_again() -> None:
    app = Dashboard(cast(Operations, CannedOperations(BREACHED)))
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.pause()
        app.theme = LIGHT
        await pilot.pause(0.1)
        for widget in app.screen.query("QueueTable, Rule, #verdict").results():
            strips = widget.render_lines(Region(0, 0, *widget.size))
            styles = [segment.style for strip in strips for segment in strip if segment.style is not None]
            colors = {style.color.name for style in styles if style.color is not None}
            assert colors
            assert not colors & set(PALETTES[DARK].texts.values())


@pytest.mark.slow
async def test_without_colours_none_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = dashboard(busy())
    async with app.run_test(size=(120, 36)) as pilot:
        for key in ("1", "2", "4", "a"):
            await pilot.press(key)
            await settled(pilot)
            segments = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
            for line_filter in app._filters:
                segments = line_filter.apply(segments, Color(0, 0, 0))
            styles = [segment.style for segment in segments if segment.style is not None]
            assert any(style.bold for style in styles)
            assert any(style.reverse for style in styles)
            assert not [style for style in styles if style.color or style.bgcolor]
