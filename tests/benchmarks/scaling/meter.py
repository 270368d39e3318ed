"""Counts what a server does between two moments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

INFO_COMMANDS = 1
"""Of the meter itself, between two readings."""


@dataclass(frozen=True)
class Reading:
    """What a server has done since its start, and what it holds."""

    at: float
    cpu_seconds: float
    commands: int
    input_bytes: int
    output_bytes: int
    memory: int
    connections: int


@dataclass(frozen=True)
class Usage:
    """The difference of two readings."""

    seconds: float
    cpu_seconds: float
    commands: int
    input_bytes: int
    output_bytes: int
    memory: int
    connections: int

    @property
    def cpu_percent(self) -> float:
        """Of one core."""
        return 100 * self.cpu_seconds / self.seconds

    @property
    def commands_a_second(self) -> float:
        """Those inside scripts counted, too."""
        return self.commands / self.seconds


def empty(client: Any) -> None:
    """Remove all keys, and wait for the memory."""
    client.execute_command("FLUSHALL", "SYNC")


def read(client: Any) -> Reading:
    """The counters now."""
    info = client.info("all")
    return Reading(
        time.monotonic(),
        float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
        int(info["total_commands_processed"]),
        int(info["total_net_input_bytes"]),
        int(info["total_net_output_bytes"]),
        int(info["used_memory"]),
        int(info["connected_clients"]),
    )


def usage_since(client: Any, before: Reading) -> Usage:
    """What the server has done since ``before``."""
    now = read(client)
    return Usage(
        now.at - before.at,
        now.cpu_seconds - before.cpu_seconds,
        now.commands - before.commands - INFO_COMMANDS,
        now.input_bytes - before.input_bytes,
        now.output_bytes - before.output_bytes,
        now.memory - before.memory,
        now.connections - before.connections,
    )
