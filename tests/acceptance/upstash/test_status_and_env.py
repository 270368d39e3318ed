"""``upstash status`` and ``env``: everything but the passwords is shown, and URLs go to a file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.acceptance.upstash.conftest import ALL, Operator, fill

pytestmark = pytest.mark.slow  # some sixty starts of the program; the decisions are in tests/unit


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
