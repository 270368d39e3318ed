"""Dead letters by HTTP: pages, filters, groups, retries by plan, discards."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.served import QUEUE, Served, assert_problem

JOBS = f"/api/v1/queues/{QUEUE}/jobs"
FAILED = "/api/v1/admin/failed-jobs"
PLANS = f"{FAILED}/plans"
OTHER = "moderation-review"


SERVER = {
    "handler": "picky",
    **{f"COUTURECAST_{queue.upper().replace('-', '_')}_RETRY_DELAYS": "none" for queue in (QUEUE, OTHER)},
}


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    (server.program.directory / "mended").unlink(missing_ok=True)
    with server.client() as client:
        yield client


def until(condition: Callable[[], Any], *, within: float = 20.0) -> Any:
    """Wait until ``condition`` is true, and return its value."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def items(client: httpx.Client, **conditions: Any) -> list[dict[str, Any]]:
    answer = client.get(FAILED, params=conditions)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def die(client: httpx.Client, fails: str, number: int = 1, queue: str = QUEUE) -> list[dict[str, Any]]:
    """So many dead letters of one error, the newest first."""
    jobs = [{"data": {"fails": fails, "n": n}} for n in range(number)]
    assert client.post(f"/api/v1/queues/{queue}/jobs", json=jobs).status_code == 202
    found = until(lambda: (all_ := items(client, error=fails)) and len(all_) == number and all_)
    return list(found)


def repair(server: Served) -> None:
    """From now on nothing fails."""
    (server.program.directory / "mended").touch()


def ended(client: httpx.Client, plan_id: int) -> dict[str, Any]:
    """The plan once all of its jobs have ended."""

    def now() -> dict[str, Any] | None:
        plan: dict[str, Any] = client.get(f"{PLANS}/{plan_id}").json()
        going_on = plan["ledger"]["waiting"] + plan["ledger"]["enqueued"]
        return plan if plan["state"] in ("done", "cancelled", "halted") and not going_on else None

    plan: dict[str, Any] = until(now)
    return plan


# looking


def test_a_letter_has_the_columns_of_its_row(client: httpx.Client) -> None:
    (listed,) = die(client, "columns missing")
    shown = client.get(f"{FAILED}/{listed['id']}").json()
    assert shown == listed
    assert (shown["queue_name"], shown["state"], shown["attempts"]) == (QUEUE, "dead", 1)
    assert (shown["error_type"], shown["error_message"]) == ("ValueError", "columns missing")
    assert shown["job_data"]["kwargs"] == {"fails": "columns missing", "n": 0}
    assert "Traceback" in shown["attempt_errors"][0]["traceback"]


def test_pages_follow_one_another(client: httpx.Client) -> None:
    die(client, "paged away", 5)
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(FAILED, params={"error": "paged away", "limit": 2, **cursor}).json()
        seen += [letter["id"] for letter in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 5


@pytest.mark.slow
def test_a_page_of_large_letters_ends_early_and_leads_on(client: httpx.Client) -> None:
    jobs = [{"data": {"fails": "heavy as lead", "n": n, "x": "x" * 900_000}} for n in range(25)]
    for at in range(0, 25, 5):
        assert client.post(JOBS, json=jobs[at : at + 5]).status_code == 202
    condition = {"error": "heavy as lead"}
    groups = f"{FAILED}/groups"
    until(lambda: (all_ := client.get(groups, params=condition).json()["items"]) and all_[0]["count"] == 25)
    seen: list[int] = []
    page = {"next": None}
    for _ in range(5):
        cursor = {"cursor": page["next"]} if page["next"] else {}
        page = client.get(FAILED, params={**condition, "limit": 200, **cursor}).json()
        seen += [letter["id"] for letter in page["items"]]
        assert len(seen) % 5 == 0
    assert (len(set(seen)), page["next"]) == (25, None)
    assert len(client.get(groups, params=condition).content) < 2_000


def test_filters_hold_together(client: httpx.Client) -> None:
    (letter,) = die(client, "filtered out", queue=OTHER)
    conditions = {"error": "FILTERED", "queue": OTHER, "since": "1h", "fingerprint": letter["fingerprint"]}
    assert [found["id"] for found in items(client, **conditions)] == [letter["id"]]
    assert items(client, **conditions, function=letter["function"])
    assert items(client, **conditions, state="all")
    assert not items(client, **{**conditions, "queue": QUEUE})
    assert not items(client, **conditions, until="1h")
    assert not items(client, **conditions, state="replayed")
    assert not items(client, **conditions, poison="true")
    assert not items(client, **conditions, archived="true")


def test_groups_are_counted(client: httpx.Client) -> None:
    letters = die(client, "grouped together", 3)
    groups = client.get(f"{FAILED}/groups", params={"error": "grouped"}).json()["items"]
    (group,) = groups
    assert (group["count"], group["fingerprint"]) == (3, letters[0]["fingerprint"])
    assert len(group["trend"]) == 24
    assert group["sample"]["id"] == letters[0]["id"]


def test_letters_are_exported_for_programs_and_for_people(client: httpx.Client) -> None:
    letters = die(client, "exported \x1b[2J away", 3)
    exported = client.get(f"{FAILED}/export", params={"error": "exported", "queue": QUEUE})
    assert exported.status_code == 200
    assert exported.headers["content-type"].startswith("application/jsonl")
    assert 'filename="dead-letters.jsonl"' in exported.headers["content-disposition"]
    rows = [json.loads(line) for line in exported.text.splitlines()]
    assert [row["id"] for row in rows] == [letter["id"] for letter in letters]
    assert [row["job_data"] for row in rows] == [letter["job_data"] for letter in letters]
    document = client.get(f"{FAILED}/export", params={"error": "exported", "format": "markdown"})
    assert document.headers["content-type"] == "text/markdown; charset=utf-8"
    assert all(f"Letter {letter['id']}" in document.text for letter in letters)
    assert "\x1b" not in document.text


def test_letters_are_exported_for_spreadsheets(client: httpx.Client) -> None:
    letters = die(client, "=exported() \x1b[2J for spreadsheets", 2)
    exported = client.get(f"{FAILED}/export", params={"error": "for spreadsheets", "format": "csv"})
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="dead-letters.csv"' in exported.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(exported.text, newline="")))
    assert [row["id"] for row in rows] == [str(letter["id"]) for letter in letters]
    assert {row["error_message"] for row in rows} == {"'=exported() \\u001b[2J for spreadsheets"}
    assert [json.loads(row["job_data"]) for row in rows] == [letter["job_data"] for letter in letters]


def test_an_export_is_refused_before_it_begins(client: httpx.Client) -> None:
    for query, field in (("format=docx", "format"), ("queue=colours", "queue"), ("limit=1", "limit")):
        problem = assert_problem(client.get(f"{FAILED}/export?{query}"), 422)
        assert [error["field"] for error in problem["errors"]] == [field]
    assert client.get(f"{FAILED}/export", params={"error": "no letter has this"}).text == ""


def test_a_lineage_has_each_letter_of_a_job_and_its_replays(client: httpx.Client) -> None:
    (first,) = die(client, "died in a row")
    data = {"fails": "died in a row once more"}
    assert client.post(f"{FAILED}/{first['id']}/retry", json={"data": data}).status_code == 202
    (second,) = until(lambda: items(client, error="in a row once more"))
    for letter in (first, second):
        lineage = client.get(f"{FAILED}/{letter['id']}/lineage").json()["items"]
        assert [(found["id"], found["replay_of"]) for found in lineage] == [
            (first["id"], None),
            (second["id"], first["id"]),
        ]
        assert [len(found["replays"]) for found in lineage] == [1, 0]
        assert lineage[0]["error_message"] == "died in a row"
    assert_problem(client.get(f"{FAILED}/999999999/lineage"), 404, "999999999")


# refusals


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("queue=colours", "queue"),
        ("state=gone", "state"),
        ("since=yesterday", "since"),
        ("until=9999999w", "until"),
        ("error=ab", "error"),
        ("fingerprint=xyz", "fingerprint"),
        ("poison=maybe", "poison"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=nonsense", "cursor"),
        ("colour=red", "colour"),
    ],
)
def test_an_invalid_condition_is_a_problem_of_its_parameter(
    client: httpx.Client, query: str, field: str
) -> None:
    problem = assert_problem(client.get(f"{FAILED}?{query}"), 422)
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("letter", ["0", "-1", "x", "1.5", str(2**63), "999999999", "+1", "1.0", "01"])
def test_an_unknown_id_is_not_found(client: httpx.Client, letter: str) -> None:
    assert_problem(client.get(f"{FAILED}/{letter}"), 404)
    assert_problem(client.post(f"{FAILED}/{letter}/retry"), 404)
    assert_problem(client.get(f"{PLANS}/{letter}"), 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": None},
        {"ids": ["1"]},
        {"ids": [0]},
        {"ids": [1], "filter": {}},
        {"ids": [1], "filter": None},
        {"filter": {"queue": "colours"}},
        {"filter": {"colour": "red"}},
        {"filter": {"poison": 1}},
        {"ids": [1], "rate": 0},
        {"ids": [1], "halt": 1.5},
        {"ids": [1], "dry_run": "yes"},
    ],
)
def test_an_invalid_selection_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    assert_problem(client.post(f"{FAILED}/retry", json=body), 422)


def test_unknown_ids_of_a_selection_are_named(client: httpx.Client) -> None:
    for verb in ("retry", "discard", "restore"):
        assert_problem(client.post(f"{FAILED}/{verb}", json={"ids": [987654321]}), 404, "987654321")


# retries


def test_one_letter_is_retried_once(server: Served, client: httpx.Client) -> None:
    (letter,) = die(client, "retried alone")
    repair(server)
    answer = client.post(f"{FAILED}/{letter['id']}/retry", headers={"X-Operator": "anna"})
    assert answer.status_code == 202
    assert answer.json() == {"id": letter["id"], "key": letter["job_id"]}
    assert client.get(f"{FAILED}/{letter['id']}").json()["state"] == "replayed"
    assert_problem(client.post(f"{FAILED}/{letter['id']}/retry"), 409, "replayed already")


@pytest.mark.slow
def test_one_letter_is_retried_with_other_arguments(client: httpx.Client) -> None:
    (letter,) = die(client, "edited wrongly")
    answer = client.post(
        f"{FAILED}/{letter['id']}/retry", json={"data": {"fails": "edited again"}, "reason": "a typing error"}
    )
    assert answer.status_code == 202
    (again,) = until(lambda: items(client, error="edited again"))
    assert again["replay_of"] == letter["id"]
    assert again["job_data"]["kwargs"] == {"fails": "edited again"}


def test_a_dry_run_changes_nothing_and_its_selection_is_what_was_counted(
    server: Served, client: httpx.Client
) -> None:
    first = die(client, "counted before", 3)
    dry = client.post(f"{FAILED}/retry", json={"filter": {"error": "counted before"}, "dry_run": True})
    assert dry.status_code == 200
    preview = dry.json()
    assert (preview["total"], preview["queues"]) == (3, {QUEUE: 3})
    assert preview["groups"][0]["count"] == 3
    jobs = [{"data": {"fails": "counted before"}}]
    assert client.post(JOBS, json=jobs).status_code == 202
    until(lambda: len(items(client, error="counted before")) == 4)
    repair(server)
    plan = client.post(f"{FAILED}/retry", json=preview["selection"]).json()
    assert plan["total"] == 3
    assert ended(client, plan["id"])["ledger"]["completed"] == 3
    (left,) = items(client, error="counted before")
    assert left["id"] > first[0]["id"]


def test_many_are_retried_by_a_plan_that_can_be_followed(server: Served, client: httpx.Client) -> None:
    letters = die(client, "retried together", 4)
    repair(server)
    ids = [letter["id"] for letter in letters]
    answer = client.post(f"{FAILED}/retry", json={"ids": ids, "canary": 1, "rate": 100, "reason": "mended"})
    assert answer.status_code == 202
    plan = answer.json()
    assert answer.headers["location"] == f"{PLANS}/{plan['id']}"
    assert (plan["total"], plan["canary"], plan["rate"], plan["reason"]) == (4, 1, 100, "mended")
    assert plan["actor"] == "http:127.0.0.1"
    done = ended(client, plan["id"])
    assert (done["state"], done["standing"], done["ledger"]["completed"]) == ("done", "done", 4)
    assert plan["id"] in [listed["id"] for listed in client.get(PLANS).json()["items"]]
    page = client.get(f"{PLANS}/{plan['id']}/letters?limit=3").json()
    rest = client.get(f"{PLANS}/{plan['id']}/letters?limit=3&cursor={page['next']}").json()
    assert sorted(item["letter_id"] for item in page["items"] + rest["items"]) == sorted(ids)
    assert rest["next"] is None
    assert_problem(client.post(f"{PLANS}/{plan['id']}/cancel"), 409)
    assert_problem(client.post(f"{PLANS}/{plan['id']}/run"), 409)


def test_a_plan_halts_by_itself_and_resumes_with_a_higher_limit(client: httpx.Client) -> None:
    ids = [letter["id"] for letter in die(client, "dying again", 3)]
    plan = client.post(f"{FAILED}/retry", json={"ids": ids, "canary": 2, "halt": 0.5}).json()
    halted = ended_or_halted(client, plan["id"])
    assert (halted["state"], halted["ledger"]["same"]) == ("halted", 2)
    assert_problem(client.post(f"{PLANS}/{plan['id']}/run"), 409, "halted")
    assert client.post(f"{PLANS}/{plan['id']}/run", json={"halt": 1}).status_code == 202
    assert ended(client, plan["id"])["ledger"]["same"] == 3


def ended_or_halted(client: httpx.Client, plan_id: int) -> dict[str, Any]:
    def now() -> dict[str, Any] | None:
        plan: dict[str, Any] = client.get(f"{PLANS}/{plan_id}").json()
        return plan if plan["state"] in ("done", "halted") else None

    plan: dict[str, Any] = until(now)
    return plan


def test_a_slow_plan_is_paused_and_cancelled(server: Served, client: httpx.Client) -> None:
    ids = [letter["id"] for letter in die(client, "never in a hurry", 5)]
    repair(server)
    plan = client.post(f"{FAILED}/retry", json={"ids": ids, "rate": 0.5}).json()
    until(lambda: client.get(f"{PLANS}/{plan['id']}").json()["state"] == "running")
    paused = client.post(f"{PLANS}/{plan['id']}/pause")
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    cancelled = client.post(f"{PLANS}/{plan['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert items(client, error="never in a hurry")


def test_nothing_to_retry_is_a_conflict(client: httpx.Client) -> None:
    answer = client.post(f"{FAILED}/retry", json={"filter": {"error": "nobody ever died of this"}})
    assert_problem(answer, 409, "nothing to replay")


# discards


def test_a_discard_hides_and_can_be_undone(client: httpx.Client) -> None:
    letters = die(client, "hidden away", 2)
    selection = {"filter": {"error": "hidden away"}, "reason": "known"}
    assert client.post(f"{FAILED}/discard", json=selection).json() == {"count": 2, "others": 0}
    assert not items(client, error="hidden away")
    assert len(items(client, error="hidden away", state="discarded")) == 2
    assert_problem(client.post(f"{FAILED}/{letters[0]['id']}/retry"), 409)
    restore = {"ids": [letters[0]["id"]]}
    assert client.post(f"{FAILED}/restore", json=restore).json() == {"count": 1, "others": 0}
    assert client.post(f"{FAILED}/restore", json=restore).json() == {"count": 0, "others": 1}
    assert len(items(client, error="hidden away")) == 1


# the archive


def test_old_letters_are_archived_after_a_dry_run(client: httpx.Client) -> None:
    (letter,) = die(client, "archived away")
    archive = f"{FAILED}/archive"
    assert client.post(archive).json() == {"count": 0}
    assert client.post(archive, json={"days": 30}).json() == {"count": 0}
    counted = client.post(archive, json={"days": 0, "dry_run": True}).json()
    assert counted["count"] >= 1
    assert items(client, error="archived away")
    assert client.post(archive, json={"days": 0}).json() == counted
    assert not items(client, error="archived away")
    assert [found["id"] for found in items(client, error="archived away", archived="true")] == [letter["id"]]


@pytest.mark.parametrize("body", [{"days": -1}, {"days": 36_501}, {"days": "30"}, {"days": None}, {"old": 1}])
def test_an_invalid_age_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    assert_problem(client.post(f"{FAILED}/archive", json=body), 422)
