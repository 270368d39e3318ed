"""The colours of the dashboard, by meaning: our four themes, and the same meanings for Textual's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from rich.style import Style
from rich.theme import Theme as StyleNames
from textual.color import Color
from textual.theme import Theme

from tui.text.styles import ACCENT, BREACH, MUTED, OK, PAUSED, RULE, WATCH

DARK, LIGHT, CONTRAST, ANSI = "couturecast", "couturecast-light", "couturecast-contrast", "couturecast-ansi"
_COLOURS_OF_ANSI = ("standard", "windows")
"""Rich's name of a terminal with 16 colours."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The surfaces, and the colours of texts on them; each text has a contrast of 4.5:1 on each surface."""

    background: str
    surface: str
    selected: str
    text: str
    muted: str
    accent: str
    ok: str
    watch: str
    breach: str
    paused: str
    rule: str
    """Colour of lines: it carries no text."""

    @property
    def surfaces(self) -> dict[str, str]:
        """Colours on which texts stand."""
        return {name: getattr(self, name) for name in ("background", "surface", "selected")}

    @property
    def texts(self) -> dict[str, str]:
        """Colours in which texts are written."""
        lines = ("rule", *self.surfaces)
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in lines}


PALETTES: Mapping[str, Palette] = {
    DARK: Palette(
        background="#10141b",
        surface="#171d27",
        selected="#1f2836",
        text="#d6dbe4",
        muted="#8a95a9",
        accent="#7aa2f7",
        ok="#7ccf98",
        watch="#e6b455",
        breach="#f47a87",
        paused="#b69cf5",
        rule="#3b4454",
    ),
    LIGHT: Palette(
        background="#fbfbf9",
        surface="#f1f1ee",
        selected="#e2e6ee",
        text="#1d232d",
        muted="#565e6c",
        accent="#2450b0",
        ok="#1c6637",
        watch="#7a4f00",
        breach="#b01f33",
        paused="#6535b8",
        rule="#b9bec8",
    ),
    CONTRAST: Palette(
        background="#000000",
        surface="#000000",
        selected="#262626",
        text="#ffffff",
        muted="#d0d0d0",
        accent="#8ecbff",
        ok="#5cff8f",
        watch="#ffd84d",
        breach="#ff8f9c",
        paused="#d7b8ff",
        rule="#9a9a9a",
    ),
    ANSI: Palette(
        background="ansi_black",
        surface="ansi_black",
        selected="ansi_black",
        text="ansi_bright_white",
        muted="ansi_white",
        accent="ansi_bright_cyan",
        ok="ansi_bright_green",
        watch="ansi_bright_yellow",
        breach="ansi_bright_red",
        paused="ansi_bright_magenta",
        rule="ansi_white",
    ),
}
_MEANINGS = {
    OK: "text-success",
    WATCH: "text-warning",
    BREACH: "text-error",
    PAUSED: "text-secondary",
    ACCENT: "accent",
}
"""The variables of Textual that come closest, for its own themes."""
_SURFACES = ("background", "surface", "panel")
MIN_CONTRAST = 4.5
"""Contrast of every text with its background."""
_BLEND_STEPS = 20
_MUTED_SHARE, _RULE_SHARE = 0.3, 0.7
"""Share of the background in these two, in Textual's themes."""


def themes() -> list[Theme]:
    """Return our themes."""
    return [_theme(name, palette) for name, palette in PALETTES.items()]


def default_theme(colour_system: str | None) -> str:
    """Return the theme for a terminal, by Rich's name for its colours."""
    return ANSI if colour_system in _COLOURS_OF_ANSI else DARK


def add_meanings(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a theme, with our own: a theme of Textual's has none of them."""
    background, foreground = (Color.parse(variables[name]) for name in ("background", "foreground"))
    own = {name: variables[nearest] for name, nearest in _MEANINGS.items()}
    if background.ansi is None and foreground.ansi is None:
        own[MUTED] = foreground.blend(background, _MUTED_SHARE).hex
        surfaces = [Color.parse(variables[name]) for name in _SURFACES]
        own = {name: _readable(Color.parse(color), surfaces) for name, color in own.items()}
        own[RULE] = foreground.blend(background, _RULE_SHARE).hex
    else:
        own |= {MUTED: variables["foreground"], RULE: variables["foreground"]}
    own |= {"selected": variables["panel"], "cursor-style": "bold"}
    is_ours = OK in variables
    return own | dict(variables) if is_ours else dict(variables) | own


def contrast(one: Color, other: Color) -> float:
    """Return the contrast of two colours, from 1 to 21, as WCAG 2 defines it."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Color) -> float:
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in color.normalized
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _readable(color: Color, surfaces: Sequence[Color]) -> str:
    """Return the colour, as much nearer to black or white as it takes to be read on all surfaces."""
    black_or_white = max((Color(0, 0, 0), Color(255, 255, 255)), key=lambda end: contrast(end, surfaces[0]))
    mixed = color
    for step in range(_BLEND_STEPS + 1):
        mixed = color.blend(black_or_white, step / _BLEND_STEPS)
        if all(contrast(mixed, surface) >= MIN_CONTRAST for surface in surfaces):
            break
    return mixed.hex


def style_names(variables: Mapping[str, str], *, no_color: bool) -> StyleNames:
    """Return the styles that texts name; without colours a breach is bold."""
    names = (OK, WATCH, BREACH, PAUSED, ACCENT, MUTED, RULE)
    bold = (BREACH, WATCH) if no_color else ()
    return StyleNames(
        {name: Style(color=_rich_color(variables[name]), bold=name in bold or None) for name in names}
    )


def _rich_color(color: str) -> str:
    if color.startswith("ansi_"):
        return color.removeprefix("ansi_")
    return Color.parse(color).hex6.lower()


def _theme(name: str, palette: Palette) -> Theme:
    ansi = name == ANSI
    return Theme(
        name=name,
        primary=palette.accent,
        secondary=palette.paused,
        warning=palette.watch,
        error=palette.breach,
        success=palette.ok,
        accent=palette.accent,
        foreground=palette.text,
        background=palette.background,
        surface=palette.surface,
        panel=palette.selected,
        dark=name != LIGHT,
        ansi=ansi,
        variables=_variables(palette)
        | {
            "cursor-style": "reverse" if ansi else "bold",
            "ansi-background": "ansi_black",
            "ansi-foreground": "ansi_bright_white",
        },
    )


def _variables(palette: Palette) -> dict[str, str]:
    return {
        OK: palette.ok,
        WATCH: palette.watch,
        BREACH: palette.breach,
        PAUSED: palette.paused,
        ACCENT: palette.accent,
        MUTED: palette.muted,
        RULE: palette.rule,
        "selected": palette.selected,
        "text": palette.text,
        "text-muted": palette.muted,
        "text-disabled": palette.muted,
        "text-primary": palette.accent,
        "text-secondary": palette.paused,
        "text-accent": palette.accent,
        "text-success": palette.ok,
        "text-warning": palette.watch,
        "text-error": palette.breach,
        "foreground-muted": palette.muted,
        "border": palette.rule,
        "border-blurred": palette.rule,
        "block-cursor-background": palette.accent,
        "block-cursor-foreground": palette.background,
        "button-foreground": palette.text,
        "button-color-foreground": palette.background,
        "footer-background": palette.surface,
        "footer-foreground": palette.muted,
        "footer-description-foreground": palette.muted,
        "footer-key-foreground": palette.accent,
        "scrollbar": palette.rule,
        "scrollbar-hover": palette.muted,
        "scrollbar-active": palette.accent,
        "scrollbar-background": palette.background,
        "scrollbar-background-hover": palette.background,
        "scrollbar-background-active": palette.background,
        "scrollbar-corner-color": palette.background,
    }
