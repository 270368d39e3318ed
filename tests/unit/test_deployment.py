"""The examples of docs/deploy: their times fit the program's."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings
from workers.engine.policy import DEFAULT_POLICIES

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


def unit_options() -> dict[str, str]:
    """The options of the unit, by name; of repeated ones the last."""
    lines = (DEPLOY / "systemd" / "couturecast.service").read_text().splitlines()
    options = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in options}


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    drain_seconds = Settings.model_fields["drain_seconds"].default
    assert float(unit_options()["TimeoutStopSec"]) >= drain_seconds + 10


def test_systemd_gives_a_blocked_process_the_time_to_name_its_handler() -> None:
    longest = max(policy.timeout for policy in DEFAULT_POLICIES.values())
    assert float(unit_options()["WatchdogSec"]) > longest + 15


def test_the_unit_is_notified_and_kills_no_child_while_the_program_drains() -> None:
    options = unit_options()
    assert (options["Type"], options["NotifyAccess"], options["KillMode"]) == ("notify", "main", "mixed")
    assert options["SuccessExitStatus"] == "3"
    assert options["Restart"] == "on-failure"
