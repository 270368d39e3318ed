"""The part of the dashboard that gives texts and styles their colours."""

from __future__ import annotations

from rich.segment import Segment
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter, Monochrome, NoColor
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Static

from tui.keys_in_order import KeysInOrder
from tui.state import RememberedState
from tui.theme import add_meanings, default_theme, style_names, themes


class Colourless(LineFilter):
    """Leaves text and its attributes.  Textual's own filters write shades of grey, or the default colours."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments without colours."""
        return [
            Segment(text, style.without_color if style is not None else None, control)
            for text, style, control in segments
        ]


class ThemedApp(KeysInOrder):
    """Begins with the theme of the run before, else with the one that fits the terminal."""

    def __init__(self, state: RememberedState) -> None:
        super().__init__()
        if self.no_color:
            kept = [
                line_filter
                for line_filter in self._filters
                if not isinstance(line_filter, Monochrome | NoColor)
            ]
            self._filters = [*kept, Colourless()]
        self._state = state
        self._has_styles = False
        for theme in themes():
            self.register_theme(theme)
        remembered = state.get("theme")
        theme_name = remembered if remembered in self.available_themes else None
        default = default_theme(None if self.no_color else self.console.color_system)
        self.set_reactive(App.theme, theme_name or default)
        self._parsed_variables = self.get_css_variables()
        """Those with which the styles are parsed."""
        self.stylesheet.set_variables(self._parsed_variables)
        self._use_styles()

    def on_mount(self) -> None:
        """Follow changes of the theme."""
        self.theme_changed_signal.subscribe(self, self._on_theme_changed)

    def get_css_variables(self) -> dict[str, str]:
        """Return the variables of the theme, with the colours by meaning."""
        self.theme_variables = add_meanings(super().get_css_variables())
        return self.theme_variables

    def refresh_css(self, animate: bool = True) -> None:
        """Parse and apply the styles again, if the theme has changed.

        Textual does so for each screen that is new, too, three times: 50 ms each.  A screen applies them
        itself when it is shown.
        """
        variables = self.get_css_variables()
        if variables != self._parsed_variables:
            self._parsed_variables = variables
            super().refresh_css(animate)

    def _use_styles(self) -> None:
        """Let texts use the styles of this theme, instead of those before."""
        if self._has_styles:
            self.console.pop_theme()
        self._has_styles = True
        self.console.push_theme(style_names(self.get_css_variables(), no_color=self.no_color), inherit=True)

    def _on_theme_changed(self, theme: Theme) -> None:
        self._use_styles()
        self._state.set("theme", theme.name)
        for stack in self._screen_stacks.values():
            for screen in stack:
                for widget in screen.query(Widget):  # their colours were those of the theme before
                    widget.notify_style_update()
                    if isinstance(widget, Static):
                        widget.update(widget.content)
                    else:
                        widget.refresh()
