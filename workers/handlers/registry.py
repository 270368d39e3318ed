"""The handler of each queue: the payload models of the built-in ones, and how custom ones are imported."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from typing import Any

from pydantic import BaseModel

from workers.engine.policy import ALERT, COLOR, MODERATION, WEATHER
from workers.engine.runner import SaqFunction
from workers.errors import HandlerImportError
from workers.handlers.alert import AlertPayload
from workers.handlers.color.handler import ColorPayload
from workers.handlers.moderation.handler import ModerationPayload
from workers.handlers.weather.handler import WeatherPayload

PAYLOAD_MODELS: dict[str, type[BaseModel]] = {
    WEATHER: WeatherPayload,
    ALERT: AlertPayload,
    COLOR: ColorPayload,
    MODERATION: ModerationPayload,
}
"""The schema of each queue's payload, by queue name."""
_OUR_PACKAGES = frozenset({"app", "tui", "workers", "storage"})


def parse_custom_handlers(text: str, queues: Collection[str]) -> dict[str, str]:
    """Return the names in ``queue=package.module:function``, separated by commas, by queue.

    Raises HandlerImportError.
    """
    names: dict[str, str] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        queue, equals, name = part.partition("=")
        if not equals or queue not in queues:
            raise HandlerImportError(
                repr(part),
                fix=f"use queue=package.module:function with one of {', '.join(queues)}",
            )
        module, _, attribute = name.partition(":")
        if not all(step.isidentifier() for step in (*module.split("."), *attribute.split("."))):
            raise HandlerImportError(repr(name), fix="use package.module:function")
        if queue in names:
            raise HandlerImportError(f"{queue} has two handlers", fix=f"remove {names[queue]} or {name}")
        names[queue] = name
    return names


def import_inline_handler(name: str, setting: str, folders: Sequence[str] = ()) -> SaqFunction:
    """Import an ``async def`` function into this process.  Raises HandlerImportError.

    ``setting`` is the variable by which it runs here.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.partition(".")[0] in _OUR_PACKAGES:
        raise HandlerImportError(
            f"{name!r} is in a package with the name of one of ours, and cannot run inline",
            fix=f"let it run in a process: remove {setting}=inline",
        )
    for folder in (os.getcwd(), *reversed(folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):  # the prints of a module while it is imported are not our output
            function: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            function = getattr(function, step)
    except (Exception, SystemExit) as error:  # whatever a foreign module raises while it is imported
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise HandlerImportError(f"{name!r} cannot be imported: {cause}") from error
    if not inspect.iscoroutinefunction(function):
        raise HandlerImportError(
            f"{name!r} is not an async function, and cannot run inline",
            fix=f"write async def {attribute}(ctx, **kwargs), or let it run in a process: "
            f"remove {setting}=inline",
        )
    return function  # type: ignore[no-any-return]
