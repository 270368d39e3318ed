"""``upstash``: the databases there, by the real program, from a server that keeps to the documented API."""

from __future__ import annotations

import base64
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from app.upstash.api import UpstashApi
from app.upstash.errors import UpstashError
from app.upstash.spec import DATABASES
from tests.acceptance.conftest import Done, OpenTerminal, Program
from tests.integration.workers.conftest import eventually
from tests.support.upstash_api import EMAIL, KEY, Fault, Upstash, serving

pytestmark = pytest.mark.slow  # some sixty starts of the program; the decisions are in tests/unit

ALL = [each.name for each in DATABASES]
HEADER = base64.b64encode(f"{EMAIL}:{KEY}".encode()).decode()
FREE = {"type": "free"}
PAID = {"type": "payg", "budget": 2_000}
CACHE = {"type": "payg", "budget": 1_000, "eviction": True}


@dataclass(frozen=True)
class Operator:
    """Somebody with the program and the key."""

    program: Program
    upstash: Upstash

    @property
    def environment(self) -> dict[str, str]:
        return {"UPSTASH_EMAIL": EMAIL, "UPSTASH_API_KEY": KEY, "UPSTASH_API_URL": self.upstash.url}

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Before the command, the program takes the data directory that nothing of this needs."""
        return ("--data-dir", str(self.program.data_dir), "upstash", *arguments)

    def run(self, *arguments: str, **environment: str) -> Done:
        """A run that tells no secret."""
        done = self.program.run(*self.command(*arguments), **(self.environment | environment))
        told = done.out + done.err
        assert KEY not in told
        assert HEADER not in told
        assert "secret" not in told, "a password"
        assert "token-of" not in told
        assert "Traceback" not in told
        return done

    def fails(self, *arguments: str, code: int = 1, **environment: str) -> str:
        """The one line that it ends with."""
        done = self.run(*arguments, **environment)
        assert done.code == code, done
        (line,) = done.errors
        return line


@pytest.fixture
def upstash() -> Iterator[Upstash]:
    with serving() as made:
        yield made


@pytest.fixture
def operator(program: Program, upstash: Upstash) -> Operator:
    return Operator(program, upstash)


def fill(upstash: Upstash) -> None:
    """All databases, as they should be."""
    for name, fields in zip(ALL, (FREE, FREE, PAID, CACHE), strict=True):
        upstash.add(name, **fields)


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
    names = {each["database_name"] for each in operator.upstash.databases.values()}
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
    assert [each["database"] for each in found.json["differences"]] == [
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


def test_after_a_failure_apply_makes_the_remaining_changes(operator: Operator) -> None:
    operator.upstash.faults.append(
        Fault("POST /redis/database", 503, {"error": "maintenance"}, skip=1, times=1)
    )
    done = operator.run("apply", "--yes")
    assert done.code == 1
    assert "done: create couturecast-dev" in done.err
    (line,) = done.errors
    assert "to create couturecast-staging: Upstash failed (503: maintenance)" in line
    assert "done before: create couturecast-dev: free" in line
    assert line.endswith("apply again does the rest")
    assert operator.run("apply", "--yes").code == 0
    assert sorted(each["database_name"] for each in operator.upstash.databases.values()) == sorted(ALL)


def test_a_lost_answer_creates_no_second_database(operator: Operator) -> None:
    operator.upstash.faults.append(Fault("POST /redis/database", lost=True, times=1))
    line = operator.fails("apply", "--yes")
    assert "to create couturecast-dev: no answer from 127.0.0.1: it may have been done: apply again" in line
    assert operator.run("apply", "--yes").code == 0
    assert sorted(each["database_name"] for each in operator.upstash.databases.values()) == sorted(ALL)


async def test_a_database_created_since_the_comparison_is_not_created_again(
    operator: Operator, terminal: OpenTerminal
) -> None:
    seen = terminal(*operator.command("apply", "--only", "dev"), size=(160, 40), **operator.environment)
    await seen.shows("Make 1 change at Upstash?")
    operator.upstash.add("couturecast-dev")
    seen.press("y\n")
    assert await seen.code() == 1
    assert "was made by somebody else since the comparison" in seen.text
    assert operator.upstash.mutations == []


async def test_a_refusal_changes_nothing(operator: Operator, terminal: OpenTerminal) -> None:
    seen = terminal(*operator.command("apply"), size=(160, 40), **operator.environment)
    await seen.shows("Make 4 changes at Upstash?")
    assert "create couturecast-prod: payg" in seen.text
    seen.press("n\n")
    assert await seen.code() == 1
    assert "nothing was changed" in seen.text
    assert operator.upstash.mutations == []


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


def test_read_only_mode_refuses_apply(operator: Operator) -> None:
    line = operator.fails("apply", "--yes", COUTURECAST_READ_ONLY="1")
    assert "read-only: upstash apply would change something" in line
    assert operator.upstash.asked == []
    assert operator.run("plan", COUTURECAST_READ_ONLY="1").code == 0


def test_status_shows_all_but_the_passwords(operator: Operator) -> None:
    fill(operator.upstash)
    del operator.upstash.databases["id-2"]
    operator.upstash.named("couturecast-prod").update(eviction=True, endpoint="eu1-calm-owl.upstash.io")
    done = operator.run("status")
    assert done.code == 1
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert (
        "dev couturecast-dev active eu-central-1 free off on REDIS_URL rediss://default:***@quick-fox-1.upstash.io:6379"
        in lines
    )
    assert "staging couturecast-staging not there – – – – REDIS_URL –" in lines
    assert (
        "prod couturecast-prod active eu-central-1 payg on, not as it should be on REDIS_URL rediss://default:***@eu1-calm-owl.upstash.io:6379"
        in lines
    )
    assert "change couturecast-prod: eviction on → off" in lines
    assert operator.run("status", "--only", "dev").code == 0


def test_status_for_programs(operator: Operator) -> None:
    fill(operator.upstash)
    done = operator.run("status", "--json", "--only", "prod")
    assert done.code == 0
    first, second = done.json["items"]
    assert first == {
        "environment": "prod",
        "variable": "REDIS_URL",
        "name": "couturecast-prod",
        "exists": True,
        "id": "id-3",
        "state": "active",
        "region": "eu-central-1",
        "plan": "payg",
        "eviction": False,
        "tls": True,
        "budget": 20.0,
        "endpoint": "quick-fox-3.upstash.io",
        "port": 6379,
        "url": "rediss://default:***@quick-fox-3.upstash.io:6379",
        "problems": [],
    }
    assert (second["variable"], second["eviction"]) == ("CACHE_REDIS_URL", True)


def test_json_is_one_document(operator: Operator) -> None:
    done = operator.run("apply", "--yes", "--json", "--only", "dev")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("done: create couturecast-dev: free")
    (change,) = done.json["changes"]
    assert (change["database"], change["what"]) == ("couturecast-dev", "create")
    assert operator.run("apply", "--yes", "--json", "--only", "dev").json == {
        "changes": [],
        "differences": [],
    }


def test_the_urls_of_one_environment_in_a_file(operator: Operator) -> None:
    fill(operator.upstash)
    file = operator.program.directory / "prod.env"
    done = operator.run("env", "prod", "--output", str(file))
    assert (done.code, done.out) == (0, f"{file}: REDIS_URL, CACHE_REDIS_URL\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text().splitlines()
    assert [line.partition("=")[0] for line in lines] == ["REDIS_URL", "CACHE_REDIS_URL"]
    for line, name in zip(lines, ALL[2:], strict=True):
        connection = Redis.from_url(line.partition("=")[2]).connection_pool.connection_kwargs
        assert connection["password"] == f"secret/of@{name}"
        assert connection["host"].endswith(".upstash.io")
    assert "exists already" in operator.fails("env", "dev", "--output", str(file), code=2)
    assert operator.run("env", "dev", "--output", str(file), "--force", "--json").json["variables"] == [
        "REDIS_URL"
    ]
    assert operator.upstash.mutations == []


UNFIT: dict[str, tuple[dict[str, Any] | None, str]] = {
    "not there": (None, "couturecast-dev is not there: couturecast-tui upstash apply --only dev makes it"),
    "no TLS": ({"tls": False}, "couturecast-dev has TLS off"),
    "no address": ({"endpoint": ""}, "couturecast-dev has no address yet: try again in a minute"),
    "no port": ({"port": None}, "couturecast-dev has no address yet: try again in a minute"),
    "no password": ({"password": ""}, "Upstash returns none to this key"),
    "eviction of queues": ({"eviction": True}, "couturecast-dev has eviction on and would lose jobs: "),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_no_file_is_written_without_a_url(operator: Operator, tmp_path: Path, case: str) -> None:
    fields, says = UNFIT[case]
    if fields is not None:
        operator.upstash.add("couturecast-dev", **fields)
    assert says in operator.fails("env", "dev", "--output", str(tmp_path / "dev.env"))
    assert not (tmp_path / "dev.env").exists()


def test_env_prints_differences_on_stderr(operator: Operator) -> None:
    fill(operator.upstash)
    operator.upstash.named("couturecast-prod").update(
        state="suspended", budget=100, primary_region="us-east-1"
    )
    operator.upstash.named("couturecast-prod-cache").update(eviction=False)
    file = operator.program.directory / "prod.env"
    done = operator.run("env", "prod", "--output", str(file))
    assert done.code == 0
    assert done.err.splitlines() == [
        "change couturecast-prod-cache: eviction off → on",
        "couturecast-prod: is suspended: https://console.upstash.com/redis/id-3 says why",
        "couturecast-tui upstash apply changes that",
    ]
    assert len(file.read_text().splitlines()) == 2


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


@pytest.mark.parametrize("arguments", [("--yes",), ("--yes", "--json")])
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_output_interrupts_no_change(
    operator: Operator, arguments: tuple[str, ...], closed: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: writing}
    done = subprocess.run(
        operator.program.command(operator.command("apply", *arguments)),
        env=operator.program.environment | operator.environment,
        cwd=operator.program.directory,
        stdin=subprocess.DEVNULL,
        check=False,
        **streams,
    )
    os.close(writing)
    assert len(operator.upstash.mutations) == 4
    assert done.returncode == 0, "what was done is no failure"
    if closed == "stdout":
        assert [name for name in ALL if f"done: create {name}: ".encode() in done.stderr] == ALL


@pytest.mark.parametrize("arguments", [("--yes",), ("--yes", "--json")])
async def test_an_interrupted_apply_lists_the_changes_made(
    operator: Operator, terminal: OpenTerminal, arguments: tuple[str, ...]
) -> None:
    operator.upstash.faults.append(Fault("POST", seconds=3, skip=1))
    seen = terminal(*operator.command("apply", *arguments), size=(200, 40), **operator.environment)
    await eventually(lambda: len(operator.upstash.mutations) == 2)
    seen.process.send_signal(signal.SIGINT)
    assert await seen.code() == 130
    assert (
        "error: interrupted: the change that was under way may have been made; done before: create couture"
        in seen.text
    )
    assert "apply again does the rest" in seen.text
    assert "Traceback" not in seen.text


def test_a_timeout_is_reported(upstash: Upstash) -> None:
    upstash.faults += [Fault("GET", seconds=0.5, times=1), Fault("POST", seconds=0.5, times=1)]
    account = UpstashApi(upstash.url, EMAIL, SecretStr(KEY), timeout=0.1)
    with pytest.raises(UpstashError, match=r"no answer from 127\.0\.0\.1: retry later"):
        account.databases(ALL)
    with pytest.raises(UpstashError, match="it may have been done: apply again, which compares first"):
        account.create(DATABASES[0])
    account.close()
    assert KEY not in repr(vars(account))
