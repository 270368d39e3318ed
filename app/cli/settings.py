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


def load_settings(data_dir: Path | None, **flags: Any) -> tuple[Settings, dict[str, QueuePolicy]]:
    """Return the settings and the queues, after the log was set up by them.  Raises UsageError."""
    settings, policies = load(data_dir=data_dir, **flags)
    logs.configure(settings.log_level)
    for line in unknown_variables(environment()):
        log.warning(line)
    return settings, policies
