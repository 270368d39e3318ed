"""A dead letter for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.dead_letters.records import NewDeadLetter

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def letter(uid: str = "u1", **fields: Any) -> NewDeadLetter:
    base = NewDeadLetter(
        uid=uid,
        queue_name="weather-ingestion",
        job_id=f"job-{uid}",
        function="ingest_weather",
        job_data={"kwargs": {"location_id": "lisboa", "empty": [], "big": 2**70}},
        error_type="RuntimeError",
        error_message="503 from the weather service",
        traceback="Traceback …",
        fingerprint="f" * 16,
        attempts=4,
        attempt_errors=[{"attempt": 1, "message": "503"}],
        worker="w1",
        enqueued_at=NOON - timedelta(minutes=1),
        failed_at=NOON,
        replay_of=None,
    )
    return replace(base, **fields)
