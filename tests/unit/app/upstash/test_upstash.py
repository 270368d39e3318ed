"""The databases at Upstash: the table of those that are wanted, and what a comparison finds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import AppError, UsageError
from app.upstash.database import Database
from app.upstash.diff import compare
from app.upstash.spec import DATABASES, DatabaseSpec, platform_of, select_specs

QUEUES = DatabaseSpec("q", "prod", "REDIS_URL", "payg", eviction=False, budget=20)
AS_WANTED = {
    "database_id": "1",
    "database_name": "q",
    "type": "payg",
    "primary_region": "eu-central-1",
    "state": "active",
    "tls": True,
    "eviction": False,
    "budget": 2_000,
}


def changes(**fields: Any) -> list[str]:
    """Return the changes to a database with these fields."""
    found = Database.model_validate(AS_WANTED | fields)
    return [change.what for change in compare([QUEUES], [found]).changes]


def test_eviction_is_off_for_all_queues() -> None:
    assert {spec.eviction for spec in DATABASES if spec.variable == "REDIS_URL"} == {False}
    assert {spec.eviction for spec in DATABASES if spec.variable == "CACHE_REDIS_URL"} == {True}


def test_each_environment_has_one_database_for_queues_and_names_are_unique() -> None:
    queues = [spec.environment for spec in DATABASES if spec.variable == "REDIS_URL"]
    assert sorted(queues) == ["dev", "prod", "staging"]
    assert len({spec.name for spec in DATABASES}) == len(DATABASES)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, []),
        ({"eviction": True}, ["eviction"]),
        ({"tls": False}, ["tls"]),
        ({"type": "free", "budget": None}, ["plan", "budget"]),
        ({"budget": 2_001}, ["budget"]),
        ({"budget": 0}, ["budget"]),
        ({"type": "pro", "budget": 0}, []),
        ({"type": "paid"}, []),
        ({"type": "paid", "budget": 36_000, "eviction": True}, ["eviction", "budget"]),
        ({"type": "fixed_1gb", "budget": 0}, []),
        (
            {"type": "free", "budget": 0, "eviction": True, "tls": False},
            ["eviction", "tls", "plan", "budget"],
        ),
    ],
)
def test_changes_are_in_the_order_of_danger(fields: dict[str, Any], what: list[str]) -> None:
    assert changes(**fields) == what


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, None),
        ({"type": "paid"}, None),
        ({"type": "pro"}, None),
        ({"read_regions": None}, None),
        ({"type": "free_trial"}, "q: has the plan 'free_trial', which is unknown here: its plan and budget"),
        ({"type": None}, "q: has an unknown plan: its plan and budget are not compared: https://"),
        ({"state": None}, "q: is in an unknown state: https://console.upstash.com/redis/1 says why"),
        (
            {"read_regions": ["us-east-1", "us-west-2"]},
            "q: has read regions (us-east-1, us-west-2), each billed",
        ),
    ],
)
def test_other_differences_are_reported_and_not_changed(fields: dict[str, Any], says: str | None) -> None:
    found = compare([QUEUES], [Database.model_validate(AS_WANTED | fields)])
    assert found.changes == ()
    assert [str(difference)[: len(says or "")] for difference in found.differences] == (
        [] if says is None else [says]
    )


@pytest.mark.parametrize("field", ["eviction", "tls"])
def test_missing_facts_about_safety_are_errors(field: str) -> None:
    for fields in ({field: None}, {}):
        with pytest.raises(ValidationError, match=field):
            Database.model_validate({k: v for k, v in AS_WANTED.items() if k != field} | fields)


def test_old_databases_have_their_region_in_another_field() -> None:
    found = Database.model_validate(AS_WANTED | {"primary_region": "", "region": "eu-central-1"})
    assert compare([QUEUES], [found]).differences == ()


def test_databases_are_identified_by_name() -> None:
    twice = [Database.model_validate(AS_WANTED | {"database_id": database_id}) for database_id in "ab"]
    with pytest.raises(AppError, match=r"q: 2 databases have this name \(a, b\)"):
        compare([QUEUES], twice)
    others = [Database.model_validate(database.model_dump() | {"database_name": "Q"}) for database in twice]
    assert [change.what for change in compare([QUEUES], others).changes] == ["create"]


@pytest.mark.parametrize(
    ("endpoint", "tls", "url"),
    [
        ("calm-owl-7", True, "rediss://default:***@calm-owl-7.upstash.io:6379"),
        ("eu1-calm-owl-7.upstash.io", True, "rediss://default:***@eu1-calm-owl-7.upstash.io:6379"),
        ("calm-owl-7", False, "redis://default:***@calm-owl-7.upstash.io:6379"),
        ("", True, ""),
        (None, True, ""),
    ],
)
def test_urls_hide_the_password(endpoint: str | None, tls: bool, url: str) -> None:
    found = Database.model_validate(
        AS_WANTED | {"endpoint": endpoint, "port": 6379, "tls": tls, "password": "x"}
    )
    assert found.url() == url
    assert "password" not in repr(found)


def test_without_a_port_there_is_no_url() -> None:
    assert Database.model_validate(AS_WANTED | {"endpoint": "calm-owl-7", "port": None}).url() == ""


def test_regions_and_budgets_are_validated() -> None:
    assert (platform_of("eu-central-1"), platform_of("us-east4")) == ("aws", "gcp")
    assert {spec.region for spec in select_specs(region="us-east4")} == {"us-east4"}
    assert [spec.budget for spec in select_specs("prod", budget=7)] == [7, 10]
    with pytest.raises(UsageError, match="--budget is for couturecast-prod"):
        select_specs("staging", budget=7)
