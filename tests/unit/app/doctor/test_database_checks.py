"""The doctor's conclusions about the pool and the tables of a database."""

from __future__ import annotations

import pytest

from app.doctor.checks.migrations import assess_revision, revisions
from app.doctor.checks.postgres_permissions import assess_pool_size
from storage.database.migrations import HEAD


@pytest.mark.parametrize(
    ("pool", "processes", "limit", "used", "state"),
    [
        (5, 3, 97, 20, "ok"),
        (5, None, 97, 20, "ok"),
        (7, 13, 100, 20, "ok"),
        (5, 19, 100, 20, "wrong"),
        (5, 3, 100, None, "ok"),
        (60, 1, 100, None, "wrong"),
        (60, None, 50, 1, "wrong"),
        (5, 3, 97, 95, "warning"),
    ],
)
def test_pools_larger_than_the_limit_are_wrong(
    pool: int, processes: int | None, limit: int, used: int | None, state: str
) -> None:
    assert assess_pool_size(pool, processes, limit, used).state == state


def test_the_recommended_pool_size_fits() -> None:
    assert "COUTURECAST_DB_POOL_SIZE to 4," in assess_pool_size(5, 20, 100, 1).fix


@pytest.mark.parametrize(
    ("revision", "tables", "state"),
    [
        (HEAD, {"job_failures"}, "ok"),
        (None, set(), "ok"),
        (None, {"job_failures"}, "wrong"),
        ("0001", {"job_failures"}, "warning"),
        ("9999", {"job_failures"}, "wrong"),
        ("another program's", set(), "wrong"),
    ],
)
def test_the_revision_of_the_tables_is_judged(revision: str | None, tables: set[str], state: str) -> None:
    assert assess_revision(revision, tables).state == state


def test_the_newest_revision_is_known() -> None:
    assert revisions()[-1] == HEAD
