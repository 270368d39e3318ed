"""The settings, as far as they can be read; and what they name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.doctor.groups import in_thread
from app.doctor.redaction import concealed
from app.doctor.results import Finding, Item, ok, warning, wrong
from app.errors import UsageError
from app.settings import Settings, environment, policies, probable_typos, read, variable
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy
from workers.errors import HandlerImportError

GROUP = "settings"


@dataclass(frozen=True)
class Configuration:
    """What could be read; a setting that could not has its default."""

    settings: Settings
    policies: Mapping[str, QueuePolicy]
    problems: tuple[str, ...] = ()
    """A line each, which begins with the variable."""

    def is_broken(self, variable: str) -> bool:
        """Whether ``variable`` could not be read."""
        return any(line.startswith(f"{variable}: ") for line in self.problems)


def configuration(**flags: Any) -> Configuration:
    """Read the settings, and whatever is wrong with them."""
    try:
        return Configuration(*read(**flags))
    except UsageError as error:
        problems = tuple(str(error).split("\n"))
    defaults = {}
    for name, field in Settings.model_fields.items():
        if any(line.startswith(f"{variable(name)}: ") for line in problems):
            defaults[name] = field.get_default(call_default_factory=True)
    return Configuration(_readable(flags, defaults), _policies(), problems)


def _readable(flags: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
    """The settings without those that are broken; without the .env file where that is."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        environment()
    except UsageError:
        return Settings(_env_file=None, **{**given, **defaults})
    return Settings(**{**given, **defaults})


def _policies() -> Mapping[str, QueuePolicy]:
    try:
        return policies()
    except UsageError:
        return DEFAULT_POLICIES


def read_settings(of: Configuration) -> list[Item]:
    """An item for each setting that is broken, and for each variable that is none."""
    items = [_item("settings", _broken(line)) for line in of.problems]
    if not items:
        source = ".env and the environment" if Path(".env").exists() else "the environment"
        items = [_item("settings", ok(f"read from {source}"))]
    try:
        unread = probable_typos()
    except UsageError:  # the .env file, of which there is an item
        unread = []
    mend = "correct its name, or remove it"
    return items + [_item("variables", warning(line, "it has no effect", mend)) for line in unread]


def _item(check: str, found: Finding) -> Item:
    return Item(GROUP, check, found)


def _broken(line: str) -> Finding:
    """The line says how to mend it, after its last colon or as a whole."""
    ours, colon, theirs = line.partition(" cannot be used: ")
    finding = f"{ours}{colon}{concealed(theirs)}"
    return wrong(finding, "no command starts", "correct it in .env or the environment")


async def handlers(of: Configuration) -> Finding:
    """Import what COUTURECAST_HANDLERS names, as a start does."""
    from workers.handlers.registry import load_custom_handlers

    names = of.settings.handlers
    try:
        found = await asyncio.to_thread(load_custom_handlers, names, of.policies)
    except HandlerImportError as error:
        ours, colon, theirs = str(error).partition(" cannot be imported: ")
        finding = f"{ours}{colon}{concealed(theirs)}"
        return wrong(finding, "no worker starts", "correct COUTURECAST_HANDLERS, or the module")
    return ok(f"replaced for {', '.join(found)}" if found else "the built-in ones")


async def weather(of: Configuration) -> Finding:
    """Whether there is a key for OpenWeather."""
    if of.settings.openweather_api_key is not None:
        return ok("OPENWEATHER_API_KEY is set")
    return warning(
        "no OPENWEATHER_API_KEY",
        "weather is computed offline, and says so",
        "set it where the weather is to be real",
    )


@in_thread
def images(of: Configuration) -> Finding:
    """Whether the folders for images are there."""
    folders = of.settings.image_dirs
    missing = [each for each in folders if not (os.path.isdir(each) and os.access(each, os.R_OK | os.X_OK))]
    if missing:
        return wrong(
            f"{missing[0]} is no folder that can be read",
            "images in it are refused, their jobs die at the first attempt",
            "make it, or correct COUTURECAST_IMAGE_DIRS",
        )
    if not folders:
        return ok("no COUTURECAST_IMAGE_DIRS: images by URL only")
    return ok(f"paths in {', '.join(map(str, folders))}")
