"""Loads the settings for a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from app import logs
from app.environment import environment
from app.settings import Settings, load, unknown_variables
from workers.engine.policy import QueuePolicy

log = structlog.get_logger(__name__)

_COMMAND_SECONDS = 5.0
"""Longest wait of a command for a server: its operator is there, and a start waits for longer."""


def load_settings(data_dir: Path | None, **flags: Any) -> tuple[Settings, dict[str, QueuePolicy]]:
    """Return the settings and the queues, after the log was set up by them.  Raises UsageError."""
    settings, policies = load(data_dir=data_dir, **flags)
    logs.configure(settings.log_level)
    for line in unknown_variables(environment()):
        log.warning(line)
    return settings, policies


def load_command_settings(data_dir: Path | None) -> tuple[Settings, dict[str, QueuePolicy]]:
    """Like `load_settings`, for a command that opens servers, and does not wait for them for long."""
    settings, policies = load_settings(data_dir)
    seconds = min(settings.start_timeout, _COMMAND_SECONDS)
    return settings.model_copy(update={"start_timeout": seconds}), policies
