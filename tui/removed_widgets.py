"""Frees widgets that were removed, which Textual keeps: https://github.com/Textualize/textual/issues/6665."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from textual._styles_cache import StylesCache

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
