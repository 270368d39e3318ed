"""Results of checks in each of the states."""

from __future__ import annotations

from app.doctor.results import CheckResult, ok, unknown, warning, wrong

ITEMS = [
    CheckResult("Redis", "server", ok("redis://:***@h:6379/0")),
    CheckResult(
        "Redis", "eviction", wrong("allkeys-lru", "jobs are lost", "CONFIG SET maxmemory-policy noeviction")
    ),
    CheckResult(
        "machine", "disk", warning("900 MB free", "once it is full, nothing is recorded", "free space there")
    ),
    CheckResult("machine", "odd", unknown("not \x1b checked: why")),
]
