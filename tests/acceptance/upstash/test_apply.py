"""``upstash plan`` and ``apply``: databases are created and corrected, and what cannot be is reported."""

from __future__ import annotations

import pytest

from tests.acceptance.upstash.conftest import ALL, Operator, fill
from tests.support.program import OpenTerminal

pytestmark = pytest.mark.slow  # some sixty starts of the program; the decisions are in tests/unit


def test_a_plan_of_an_empty_account(operator: Operator) -> None:
    done = operator.run("plan")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "create couturecast-dev: free, eu-central-1, eviction off, TLS on",
        "create couturecast-staging: free, eu-central-1, eviction off, TLS on",
        "create couturecast-prod: payg, eu-central-1, eviction off, TLS on, budget $20 a month",
        "create couturecast-prod-cache: payg, eu-central-1, eviction on, TLS on, budget $10 a month",
        "4 changes, for couturecast-tui upstash apply to make",
    ]
    assert operator.upstash.asked == [("GET", "/redis/databases", None)]


def test_apply_creates_what_was_planned(operator: Operator) -> None:
    done = operator.run("apply", "--yes", "--region", "europe-west1", "--budget", "35")
    assert done.code == 0, done.err
    assert list(operator.upstash.databases) == ["id-1", "id-2", "id-3", "id-4"]
    assert [body for _, _, body in operator.upstash.mutations] == [
        {
            "database_name": name,
            "platform": "gcp",
            "primary_region": "europe-west1",
            "plan": plan,
            "eviction": name == "couturecast-prod-cache",
            "tls": True,
            **budget,
        }
        for name, plan, budget in zip(
            ALL, ("free", "free", "payg", "payg"), ({}, {}, {"budget": 3_500}, {"budget": 1_000}), strict=True
        )
    ]
    assert "done: create couturecast-dev" in done.err
    assert (
        "prod: couturecast-tui upstash env prod --output FILE writes REDIS_URL and CACHE_REDIS_URL"
        in done.out
    )


def test_a_second_apply_changes_nothing(operator: Operator) -> None:
    assert operator.run("apply", "--yes").code == 0
    before = len(operator.upstash.mutations)
    assert before == 4
    done = operator.run("apply", "--yes")
    assert (done.code, done.out) == (0, "nothing to change\n")
    assert len(operator.upstash.mutations) == before
    assert operator.run("plan").out == "nothing to change\n"


def test_only_the_environments_that_are_named(operator: Operator) -> None:
    assert operator.run("apply", "--yes", "--only", "dev,prod").code == 0
    names = {database["database_name"] for database in operator.upstash.databases.values()}
    assert names == {"couturecast-dev", "couturecast-prod", "couturecast-prod-cache"}


def test_differences_are_corrected(operator: Operator) -> None:
    upstash = operator.upstash
    upstash.add("somebody-elses", eviction=True)
    upstash.add("couturecast-dev", type="payg", eviction=True)
    upstash.add("couturecast-staging", tls=False)
    upstash.add("couturecast-prod", type="free", budget=0)
    upstash.add("couturecast-prod-cache", type="payg", budget=36_000)
    done = operator.run("plan")
    assert done.out.splitlines() == [
        "change couturecast-dev: eviction on → off",
        "change couturecast-dev: plan payg → free",
        "change couturecast-staging: tls off → on",
        "change couturecast-prod: plan free → payg",
        "change couturecast-prod: budget none → $20 a month",
        "change couturecast-prod-cache: eviction off → on",
        "change couturecast-prod-cache: budget $360 a month → $10 a month",
        "7 changes, for couturecast-tui upstash apply to make",
    ]
    assert operator.run("apply", "--yes").code == 0
    assert upstash.mutations == [
        ("POST", "/redis/disable-eviction/id-2", None),
        ("POST", "/redis/id-2/change-plan", {"plan_name": "free"}),
        ("POST", "/redis/enable-tls/id-3", None),
        ("POST", "/redis/id-4/change-plan", {"plan_name": "payg"}),
        ("PATCH", "/redis/update-budget/id-4", {"budget": 2_000}),
        ("POST", "/redis/enable-eviction/id-5", None),
        ("PATCH", "/redis/update-budget/id-5", {"budget": 1_000}),
    ]
    assert operator.run("plan").out == "nothing to change\n"
    assert upstash.databases["id-1"]["eviction"] is True


def test_a_bought_plan_is_left_alone(operator: Operator) -> None:
    fill(operator.upstash)
    operator.upstash.named("couturecast-prod").update(type="pro", budget=0)
    assert operator.run("apply", "--yes").out == "nothing to change\n"
    assert operator.upstash.mutations == []


def test_differences_that_cannot_be_changed_are_reported(operator: Operator) -> None:
    fill(operator.upstash)
    operator.upstash.named("couturecast-prod").update(primary_region="us-east-1", eviction=True)
    operator.upstash.named("couturecast-staging").update(state="suspended")
    done = operator.run("apply", "--yes")
    assert done.code == 1
    assert (
        "couturecast-prod: is in us-east-1, not eu-central-1, and cannot be moved: use --region us-east-1"
        in done.out
    )
    assert "couturecast-staging: is suspended: https://console.upstash.com/redis/id-2 says why" in done.out
    assert operator.upstash.mutations == [("POST", "/redis/disable-eviction/id-3", None)]
    assert operator.run("plan").code == 1
    found = operator.run("plan", "--json")
    assert found.code == 1
    assert [difference["database"] for difference in found.json["differences"]] == [
        "couturecast-staging",
        "couturecast-prod",
    ]


def test_two_databases_of_one_name_are_refused(operator: Operator) -> None:
    operator.upstash.add("couturecast-dev")
    operator.upstash.add("couturecast-dev")
    line = operator.fails("apply", "--yes")
    assert line.startswith(
        "error: couturecast-dev: 2 databases have this name (id-1, id-2): rename all but one"
    )
    assert operator.upstash.mutations == []


async def test_a_refusal_changes_nothing(operator: Operator, terminal: OpenTerminal) -> None:
    seen = terminal(*operator.command("apply"), size=(160, 40), **operator.environment)
    await seen.shows("Make 4 changes at Upstash?")
    assert "create couturecast-prod: payg" in seen.text
    seen.press("n\n")
    assert await seen.code() == 1
    assert "nothing was changed" in seen.text
    assert operator.upstash.mutations == []


def test_read_only_mode_refuses_apply(operator: Operator) -> None:
    line = operator.fails("apply", "--yes", COUTURECAST_READ_ONLY="1")
    assert "read-only: upstash apply would change something" in line
    assert operator.upstash.asked == []
    assert operator.run("plan", COUTURECAST_READ_ONLY="1").code == 0
