"""Errors of the API, odd answers and wrong usage: one line with the fix."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.upstash.conftest import HEADER, Operator, fill
from tests.support.upstash_api import KEY, Fault

pytestmark = pytest.mark.slow  # some sixty starts of the program; the decisions are in tests/unit

FAULTS = {
    "forbidden": (Fault("GET", 403, {"error": "read-only key"}), "to this key (403: read-only key)"),
    "too often": (Fault("GET", 429, {}, {"Retry-After": "7"}), "further requests (429): retry in 7 s"),
    "too often, no word": (Fault("GET", 429, ""), "refuses further requests (429): retry in a minute"),
    "away": (Fault("GET", 500, "<html>"), "Upstash failed (500): retry later"),
    "no JSON": (Fault("GET", 200, "<html>"), "127.0.0.1 answers no JSON: check UPSTASH_API_URL"),
    "no list": (Fault("GET", 200, {"databases": []}), "answers no list of databases: check UPSTASH_API_URL"),
    "no databases": (Fault("GET", 200, [{"id": "x"}]), "answers no list of databases: check UPSTASH_API_URL"),
    "elsewhere": (Fault("GET", 307, "", {"Location": "http://127.0.0.1:1/"}), "127.0.0.1 answers 307"),
    "the header": (Fault("GET", 400, {"error": f"{HEADER} is wrong"}), "refuses it (400: *** is wrong)"),
    "the key": (Fault("GET", 400, {"error": f"{KEY}\nis no key"}), "refuses it (400: *** is no key)"),
    "no bounds": (Fault("GET", 400, {"error": "x" * 5_000}), "refuses it (400: xxx"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_errors_of_the_api_give_one_line_with_the_fix(operator: Operator, case: str) -> None:
    fault, says = FAULTS[case]
    operator.upstash.faults.append(fault)
    line = operator.fails("status")
    assert says in line
    assert len(line) < 400


def test_a_limit_of_the_plan(operator: Operator) -> None:
    operator.upstash.faults.append(Fault("POST", 400, {"error": "free database limit"}, skip=1))
    line = operator.fails("apply", "--yes", "--json")
    assert (
        "to create couturecast-staging: Upstash refuses it (400: free database limit): docs/upstash.md"
        in line
    )


def test_a_wrong_key(operator: Operator) -> None:
    line = operator.fails("plan", UPSTASH_API_KEY="secretive-and-wrong"[9:])
    assert "Upstash refuses the key (401): check UPSTASH_EMAIL and UPSTASH_API_KEY" in line


def test_an_unreachable_api_is_reported(operator: Operator) -> None:
    line = operator.fails("plan", UPSTASH_API_URL="http://127.0.0.1:1/v2")
    assert "127.0.0.1 cannot be reached: check the network, its proxy and UPSTASH_API_URL" in line


WRONG = {
    "no email": ({"UPSTASH_EMAIL": ""}, ("plan",), "UPSTASH_EMAIL and UPSTASH_API_KEY are both needed"),
    "no key": ({"UPSTASH_API_KEY": ""}, ("status",), "https://console.upstash.com/account/api makes a key"),
    "no TLS": ({"UPSTASH_API_URL": "http://example.com/v2"}, ("plan",), "sent unencrypted: use https:"),
    "no URL": ({"UPSTASH_API_URL": "nowhere"}, ("plan",), "UPSTASH_API_URL: "),
    "no proxy": ({"ALL_PROXY": "gopher://x:1"}, ("plan",), "ALL_PROXY names no proxy that can be used"),
    "nobody to ask": ({}, ("apply",), "standard input is not a terminal: give --yes"),
    "no environment": ({}, ("plan", "--only", "dev,test"), "'test' is not an environment: use dev, staging"),
    "no region": ({}, ("plan", "--region", "Europe"), "--region: 'Europe' is not a region: use one of AWS"),
    "budget of nobody": ({}, ("apply", "--yes", "--only", "dev", "--budget", "5"), "--budget is for"),
    "no budget": ({}, ("plan", "--budget", "0"), "'--budget'"),
    "two files in one": ({}, ("env", "dev,prod", "--output", "x"), "name one environment"),
    "no file": ({}, ("env", "dev"), "'--output'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(operator: Operator, case: str) -> None:
    environment, arguments, says = WRONG[case]
    assert says in operator.fails(*arguments, code=2, **environment)
    assert operator.upstash.asked == []


def test_others_databases_may_be_described_in_any_way(operator: Operator) -> None:
    fill(operator.upstash)
    nothing = dict.fromkeys(("endpoint", "port", "region", "primary_region", "eviction", "tls", "state"))
    operator.upstash.add("somebody-elses", **nothing, budget=12.5)
    operator.upstash.add("anybody-elses")["database_name"] = None
    assert operator.run("plan").out == "nothing to change\n"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"eviction": None}, "its eviction is missing: "),
        ({"tls": None}, "its tls is missing: "),
        ({"budget": 12.5}, "its budget cannot be read (Input should be a valid integer, "),
        ({"port": "many"}, "its port cannot be read (Input should be a valid integer, "),
    ],
)
def test_missing_fields_of_our_databases_are_named(
    operator: Operator, fields: dict[str, Any], says: str
) -> None:
    fill(operator.upstash)
    operator.upstash.named("couturecast-prod").update(fields)
    line = operator.fails("plan")
    assert line.startswith(f"error: to list the databases: couturecast-prod: {says}")
    assert line.endswith("check UPSTASH_API_URL, and see the database at https://console.upstash.com/redis")
    assert operator.run("plan", "--only", "dev").code == 0


@pytest.mark.parametrize(("status", "body"), [(201, {"ok": True}), (202, "null"), (204, "")])
def test_every_successful_status_is_accepted(operator: Operator, status: int, body: Any) -> None:
    operator.upstash.faults.append(Fault("POST", status, body, done=True))
    done = operator.run("apply", "--yes", "--only", "dev")
    assert done.code == 0, done.err
    assert operator.run("plan", "--only", "dev").out == "nothing to change\n"


def test_an_unreadable_answer_to_a_change_may_be_a_success(operator: Operator) -> None:
    operator.upstash.faults.append(Fault("POST", 200, "<html>", done=True))
    line = operator.fails("apply", "--yes", "--only", "dev")
    assert "127.0.0.1 answers no JSON: it may have been done: run plan, which shows it; nothing was" in line
