"""Checks the settings that can be loaded, and the things that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.alert_settings import load_thresholds
from app.doctor.groups import in_thread
from app.doctor.results import CheckResult, Finding, describe_problem, ok, warning, wrong
from app.environment import environment
from app.errors import SettingsError, UsageError
from app.queue_settings import load_policies
from app.settings import Settings, load, unknown_variables, variable_name
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy
from workers.monitoring.alert_rules import DEFAULTS, Thresholds

GROUP = "settings"


@dataclass(frozen=True)
class LoadedSettings:
    """The settings, with the default of each that is broken."""

    settings: Settings
    policies: Mapping[str, QueuePolicy]
    problems: tuple[UsageError, ...] = ()

    def is_broken(self, variable: str) -> bool:
        """Return whether ``variable`` cannot be read."""
        return any(problem.field == variable for problem in self.problems)


def load_settings(**flags: Any) -> LoadedSettings:
    """Load the settings, and the problems of those that are broken."""
    try:
        return LoadedSettings(*load(**flags))
    except SettingsError as error:
        problems = error.errors
    broken = {problem.field for problem in problems}
    provided = {name: value for name, value in flags.items() if value is not None}
    for name, field in Settings.model_fields.items():
        if variable_name(name) in broken:
            provided[name] = field.get_default(call_default_factory=True)
    try:
        variables = environment()
    except SettingsError:
        return LoadedSettings(Settings(_env_file=None, **provided), DEFAULT_POLICIES, problems)
    settings = Settings(**provided).with_thresholds(_thresholds(variables))
    return LoadedSettings(settings, _policies(variables), problems)


def _policies(variables: Mapping[str, str]) -> Mapping[str, QueuePolicy]:
    try:
        return load_policies(variables)
    except SettingsError:
        return DEFAULT_POLICIES


def _thresholds(variables: Mapping[str, str]) -> Thresholds:
    try:
        return load_thresholds(variables)
    except SettingsError:
        return DEFAULTS


def check_settings(config: LoadedSettings) -> list[CheckResult]:
    """Return a result for each broken setting, and for each unknown variable."""
    results = [CheckResult(GROUP, "settings", _broken_setting(problem)) for problem in config.problems]
    if not results:
        source = ".env and the environment" if Path(".env").exists() else "the environment"
        results = [CheckResult(GROUP, "settings", ok(f"read from {source}"))]
    try:
        unknown = unknown_variables(environment())
    except SettingsError:  # the .env file, which has a result already
        unknown = []
    fix = "correct its name, or remove it"
    return results + [
        CheckResult(GROUP, "variables", warning(line, "it has no effect", fix)) for line in unknown
    ]


def _broken_setting(problem: UsageError) -> Finding:
    fix = problem.fix or "correct it in .env or the environment"
    return wrong(describe_problem(problem), "no command starts", fix)


async def handlers(config: LoadedSettings) -> Finding:
    """Import the functions of COUTURECAST_HANDLERS, as a start does."""
    from app.custom_handlers import custom_handlers, find_handler

    replaced = []
    try:
        for queue, name in custom_handlers(config.settings, config.policies).items():
            handler = await find_handler(config.policies[queue], name, config.settings)
            replaced.append(f"{queue} ({config.policies[queue].run}, Python {handler.python})")
    except UsageError as error:
        fix = error.fix or "correct COUTURECAST_HANDLERS, or the module"
        return wrong(describe_problem(error), "no worker starts", fix)
    return ok(f"replaced for {', '.join(replaced)}" if replaced else "the built-in ones")


async def weather(config: LoadedSettings) -> Finding:
    """Check for a key for OpenWeather."""
    if config.settings.openweather_api_key is not None:
        return ok("OPENWEATHER_API_KEY is set")
    return warning(
        "no OPENWEATHER_API_KEY",
        "weather is computed offline, and marked so",
        "set it for real weather",
    )


@in_thread
def images(config: LoadedSettings) -> Finding:
    """Check that the folders for images can be read."""
    folders = config.settings.image_dirs
    missing = [
        folder for folder in folders if not (os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK))
    ]
    if missing:
        return wrong(
            f"{missing[0]} is not a folder that can be read",
            "jobs with images in it die at the first attempt",
            "make it, or correct COUTURECAST_IMAGE_DIRS",
        )
    if not folders:
        return ok("no COUTURECAST_IMAGE_DIRS: images by URL only")
    return ok(f"paths in {', '.join(map(str, folders))}")


@in_thread
def notifications(config: LoadedSettings) -> Finding:
    """Parse the URLs of the services that are notified, as a start does; nothing is sent."""
    from app.notify_urls import open_services

    try:
        services = open_services(config.settings)
    except UsageError as error:
        return wrong(describe_problem(error), "no worker starts", error.fix)
    if not services:
        return ok("no COUTURECAST_NOTIFY_URLS: alerts notify nobody")
    return ok(f"of alerts: {', '.join(service.label for service in services)}")
