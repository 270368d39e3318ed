"""Prometheus and promtool, if this machine has them: from Debian's package, by ``make prometheus``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
_FETCHED = PROJECT / ".tools" / "prometheus" / "usr" / "bin"


def find_program(name: str) -> str | None:
    """The path of ``prometheus`` or ``promtool``, None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=str(_FETCHED))


def need_program(name: str) -> str:
    """The path of a program; without it the test is skipped, and pytest's summary says how to get it."""
    found = find_program(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine: run `make prometheus`")
    return found
