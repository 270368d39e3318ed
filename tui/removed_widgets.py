"""Widgets that were removed: frees those that Textual keeps, and recognizes work that still looks for one.

Textual's issue: https://github.com/Textualize/textual/issues/6665
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from textual._styles_cache import StylesCache
from textual.app import ScreenStackError
from textual.css.query import NoMatches
from textual.dom import DOMNode, NoScreen
from textual.message_pump import MessagePump
from textual.widget import MountError

_mix_colours: Any = getattr(getattr(StylesCache, "get_inner_outer", None), "__wrapped__", None)
"""None in a Textual that caches it no more."""


def free_removed_widgets() -> None:
    """Have Textual remember mixed colours by the colours alone.

    Its cache has the widget's lines in its keys, too, so it held those of the last 1,024 widgets.  The
    dashboard grew by 70 KB with each key that opened something, up to a hundred megabytes.
    """
    if _mix_colours is None:
        return
    cached: Any = lru_cache(1024)(_mix_colours)
    StylesCache.get_inner_outer = classmethod(cached)  # type: ignore[assignment]


def misses_removed_widget(error: BaseException, node: MessagePump) -> bool:
    """Return whether work of a node that is being removed did not find one of its widgets: no defect.

    Textual cancels the workers of a screen, and drops its messages, only once all its widgets are gone.  A
    dialog that opens while the dashboard closes gets no widgets at all.
    """
    if not isinstance(error, (NoMatches, NoScreen, ScreenStackError, MountError)):
        return False
    return (
        not node.app.is_running
        or node.app._exit
        or any(ancestor._pruning for ancestor in cast(DOMNode, node).ancestors_with_self)
    )
