"""Checks run in groups: one that fails or hangs hides no other."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.doctor import registry as checks
from app.doctor.groups import Check, run_group, run_with_timeout
from app.doctor.results import Finding, ok


async def test_a_failed_check_hides_no_other() -> None:
    async def breaks(subject: str) -> Finding:
        raise KeyError(subject)

    async def works(subject: str) -> Finding:
        return ok(subject)

    results = await run_group("group", "it", [Check("a", breaks), Check("b", works)])
    assert [(result.check, result.finding.state) for result in results] == [("a", "unknown"), ("b", "ok")]
    assert results[0].finding.text == "the check failed: 'it'"


async def test_after_a_timeout_the_remaining_checks_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.doctor.groups.CHECK_SECONDS", 0.05)

    release = asyncio.Event()

    async def hangs(subject: None) -> Finding:
        try:
            await release.wait()
        finally:
            await release.wait()  # nor is it easily cancelled
        return ok("")

    async def works(subject: None) -> Finding:
        return ok("")

    started = time.monotonic()
    results = await run_group("group", None, [Check("a", hangs), Check("b", works)], concurrency=1)
    assert time.monotonic() - started < 30
    assert [result.finding.state for result in results] == ["wrong", "unknown"]
    assert "within 0.05 s" in results[0].finding.text
    release.set()


async def test_run_with_timeout_returns_the_result() -> None:
    async def three() -> int:
        return 3

    assert await run_with_timeout(1.0, three()) == 3


def test_names_of_checks_are_unique_in_a_group() -> None:
    for group in (
        checks.SETTINGS,
        checks.REDIS,
        checks.CACHE,
        checks.POSTGRES,
        checks.SQLITE,
        checks.MACHINE,
    ):
        names = [check.name for check in group]
        assert len(set(names)) == len(names)
