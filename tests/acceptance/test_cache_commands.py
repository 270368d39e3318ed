"""The cache on the command line: look, evict, and what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from app.servers.embedded_valkey import EmbeddedServer
from storage.cache.cache import Cache
from storage.cache.entries import ENTRY, CacheKey
from storage.cache.store import RedisCacheStore
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.pipeline import PipelineConnection
from tests.support.program import Done, OpenTerminal, Program, client, many
from tests.support.waiting import eventually

BLOCK = "2026-03-01T12"
KEYS = [f"{user}:{place}:{BLOCK}" for user in ("anna", "bruno") for place in ("lisboa", "porto")]
ODD = f"jos%C3%A9%3Ax:lisboa:{BLOCK}"
ALL = [*KEYS, ODD]


@dataclass(frozen=True)
class Case:
    """A command, and the error that it prints."""

    says: str
    arguments: tuple[str, ...]
    code: int = 2


NO_USER = "USER: no user can have this id: use 1 to 200 characters without NUL"
NOBODY = "standard input is not a terminal: give --yes, or --dry-run"
CASES = {
    "nothing said": Case("name the entries: either keys, or", ("evict",)),
    "both said": Case("name the entries: either keys, or", ("evict", "a:b", "--pattern", "a", "--yes")),
    "no pattern": Case("--pattern: is empty: use '*' for all entries", ("evict", "--pattern", "", "--yes")),
    "nobody to ask": Case(NOBODY, ("evict", "--pattern", "*")),
    "nobody to ask of one": Case(NOBODY, ("evict", KEYS[0])),
    "nobody to ask of a user": Case(NOBODY, ("evict-user", "anna")),
    "no user": Case(NO_USER, ("evict-user", "", "--yes")),
    "no possible user": Case(NO_USER, ("evict-user", "u" * 201, "--yes")),
    "no cursor": Case("'zz' is not a cursor of a cache page", ("list", "--cursor", "zz")),
    "no rows": Case("greater than or equal to 1", ("list", "--limit", "0")),
    "no entry": Case("no cache entry 'zoe:x'", ("get", "zoe:x"), 1),
    "no text": Case("KEY: not UTF-8: copy it from cache list", ("get", "\udcff")),
    "no text to find": Case("PATTERN: not UTF-8", ("list", "\udcff")),
    "unknown option": Case("o such option: --all", ("evict", "--all")),
}  # fmt: skip


def cache(*runs: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [("cache", *arguments) for arguments in runs]


async def fill(program: Program, keys: Iterable[str] = ALL) -> None:
    """Start the program, and put entries into its cache as another of its processes would."""
    if not program.headless:
        await program.start()
    line = PipelineConnection(EmbeddedServer(program.data_dir).url)
    made: Cache[dict[str, Any]] = Cache(RedisCacheStore(AutoPipeline(line.round_trip)), dict[str, Any])
    for key in keys:
        user, _, name = key.partition(":")
        owner = "josé:x" if key == ODD else user
        await made.set(
            CacheKey(owner, name), {"user_id": owner, "note": "\x1b[31mred\u202e", "api_key": "opensesame"}
        )
    await made.close()
    await line.close()


def kept(program: Program) -> list[str]:
    """The keys of the entries that are there."""
    with client(program.data_dir) as valkey:
        found: list[bytes] = valkey.keys(f"{ENTRY}*")  # type: ignore[assignment]
    return sorted(key.decode().removeprefix(ENTRY) for key in found)


def acts(program: Program) -> list[tuple[str, int, str]]:
    """Verb, number and outcome of each act."""
    with closing(sqlite3.connect(program.data_dir / "couturecast.db")) as database:
        rows = database.execute("SELECT verb, affected, outcome FROM operator_actions ORDER BY id")
        return [(verb, int(affected), outcome) for verb, affected, outcome in rows]


async def test_invalid_options_give_one_line_errors(program: Program) -> None:
    await fill(program)
    results: list[Done] = []
    cases = list(CASES.values())
    for at in range(0, len(cases), 5):
        results += await many(program, *cache(*(case.arguments for case in cases[at : at + 5])))
    for (name, case), done in zip(CASES.items(), results, strict=True):
        assert (done.code, done.out) == (case.code, ""), (name, done)
        assert len(done.errors) == 1, (name, done.err)
        assert case.says in done.errors[0], (name, done.err)
        assert "Traceback" not in done.err
    assert (kept(program), acts(program)) == (sorted(ALL), [])


async def test_entries_are_listed_and_shown(program: Program) -> None:
    await fill(program)
    with client(program.data_dir) as valkey:
        valkey.set(f"{ENTRY}foreign \x1b[31m", "not ours")
    listed, as_json, part, odd, pattern, none = await many(
        program,
        *cache(
            ("list",),
            ("list", "--json", "--limit", "1000"),
            ("list", "lisboa", "--json"),
            ("list", "josé", "--json"),
            ("list", "bruno:*", "--json"),
            ("list", "zoe"),
        ),
    )
    lines = listed.out.splitlines()
    assert lines[0].split() == ["key", "state", "age", "ttl", "size"]
    assert [line.split()[0] for line in lines[1:]] == sorted([*ALL, "foreign"])
    assert "foreign \\x1b[31m" in listed.out
    assert "corrupt" in listed.out
    page = as_json.json
    assert page["next"] is None
    row = next(item for item in page["items"] if item["key"] == KEYS[0])
    assert row["state"] == "fresh"
    assert 0 <= row["age"] < 60
    assert 800 < row["ttl"] <= 900
    assert set(row) == {"key", "state", "age", "ttl", "size"}
    assert [item["key"] for item in part.json["items"]] == [KEYS[0], KEYS[2], ODD]
    assert [item["key"] for item in odd.json["items"]] == [ODD]
    assert [item["key"] for item in pattern.json["items"]] == KEYS[2:]
    assert none.out == "no entries\n"
    shown, value, revealed = await many(
        program, *cache(("get", ODD), ("get", KEYS[0], "--json"), ("get", KEYS[0], "--json", "--reveal"))
    )
    assert "opensesame" not in shown.out + value.out
    assert (value.json["value"]["api_key"], revealed.json["value"]["api_key"]) == ("***", "opensesame")
    assert "user   josé:x" in shown.out
    assert '"note": "\\u001b[31mred' in shown.out
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    assert value.json["value"]["user_id"] == "anna"
    assert (value.json["key"], value.json["size"]) == (KEYS[0], row["size"])


async def test_figures(program: Program) -> None:
    await fill(program)
    shown, as_json = await many(program, *cache(("stats",), ("stats", "--json")))
    assert shown.out.splitlines()[0].startswith("hit rate")
    assert "with the jobs" in shown.out
    found = as_json.json
    assert (found["own"], found["hit_rate"], found["hits"]) == (False, None, 0)
    assert len(found["minutes"]) == 60
    assert found["policy"] == "volatile-lru"


async def test_keys_are_evicted_and_missing_ones_are_named(program: Program) -> None:
    await fill(program)
    tried, as_json = await many(
        program,
        *cache(("evict", KEYS[0], "zoe:x", "--dry-run"), ("evict", KEYS[0], "zoe:x", "--dry-run", "--json")),
    )
    assert (tried.code, tried.out) == (1, "1 entry of 2 named; not there: zoe:x\n")
    assert as_json.json == {"dry_run": True, "total": 1, "keys": [KEYS[0]], "left_out": ["zoe:x"]}
    assert kept(program) == sorted(ALL)
    done = program.run("cache", "evict", KEYS[0], KEYS[0], ODD, "--yes")
    assert (done.code, done.out) == (0, "2 entries evicted\n")
    some = program.run("cache", "evict", KEYS[0], KEYS[1], "--yes", "--json")
    assert (some.code, some.json) == (1, {"dry_run": False, "total": 1, "left_out": [KEYS[0]]})
    assert kept(program) == KEYS[2:]
    assert acts(program) == [
        ("cache evict", 2, "2 of 2 evicted"),
        ("cache evict", 1, "1 of 1 evicted"),
    ]


async def test_a_pattern_is_evicted_with_the_count_first(program: Program) -> None:
    await fill(program)
    tried, as_json = await many(
        program,
        *cache(
            ("evict", "--pattern", "porto", "--dry-run"), ("evict", "--pattern", "*", "--dry-run", "--json")
        ),
    )
    assert (tried.code, tried.out) == (0, "2 entries fit *porto*\n")
    assert (as_json.json["total"], sorted(as_json.json["keys"])) == (5, sorted(ALL))
    done = program.run("cache", "evict", "--pattern", "porto", "--yes", "--json")
    assert (done.code, done.json) == (0, {"dry_run": False, "total": 2})
    none = program.run("cache", "evict", "--pattern", "porto", "--yes")
    assert (none.code, none.out) == (0, "0 entries evicted\n")
    rest = program.run("cache", "evict", "--pattern", "*", "--yes")
    assert (rest.code, rest.out) == (0, "3 entries evicted\n")
    assert kept(program) == []
    assert [number for _, number, _ in acts(program)] == [2, 3]


async def test_a_user_is_evicted(program: Program) -> None:
    await fill(program)
    tried, as_json = await many(
        program, *cache(("evict-user", "anna", "--dry-run"), ("evict-user", "josé:x", "--dry-run", "--json"))
    )
    assert (tried.code, tried.out) == (0, "2 entries of user anna\n")
    assert as_json.json == {"dry_run": True, "user": "josé:x", "total": 1}
    done = program.run("cache", "evict-user", "anna", "--yes")
    assert (done.code, done.out) == (0, "2 entries evicted\n")
    again = program.run("cache", "evict-user", "anna", "--yes", "--json")
    assert (again.code, again.json) == (0, {"dry_run": False, "user": "anna", "total": 0})
    assert kept(program) == [*KEYS[2:], ODD]
    assert [verb for verb, *_ in acts(program)] == ["cache evict-user"] * 2


async def test_read_only_mode_refuses_evictions_and_nothing_else(program: Program) -> None:
    await fill(program)
    program.environment |= {"COUTURECAST_READ_ONLY": "1"}
    refused = await many(
        program,
        *cache(
            ("evict", KEYS[0], "--yes"), ("evict", "--pattern", "*", "--yes"), ("evict-user", "anna", "--yes")
        ),
    )
    for done in refused:
        assert (done.code, done.out, len(done.errors)) == (1, "", 1), done
        assert done.errors[0].startswith("error: read-only: ")
    harmless = await many(
        program, *cache(("list",), ("stats",), ("get", KEYS[0]), ("evict", "--pattern", "*", "--dry-run"))
    )
    assert [done.code for done in harmless] == [0] * 4
    assert (kept(program), acts(program)) == (sorted(ALL), [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        (("evict", KEYS[0]), "Evict 1 entry? [y/N]"),
        (("evict", "--pattern", "lisboa"), "Evict 3 entries? [y/N]"),
        (("evict-user", "bruno"), "Evict 2 entries? [y/N]"),
    ],
)
async def test_an_eviction_is_confirmed_first(
    program: Program, terminal: OpenTerminal, arguments: tuple[str, ...], asks: str
) -> None:
    await fill(program)
    no = terminal("cache", *arguments)
    await no.shows(asks)
    no.press("n\r")
    assert await no.code() == 1
    assert "error: nothing was changed" in no.text
    assert kept(program) == sorted(ALL)
    yes = terminal("cache", *arguments)
    await yes.shows(asks)
    yes.press("y\r")
    assert await yes.code() == 0
    number = int(asks.split()[1])
    assert len(kept(program)) == len(ALL) - number
    assert [affected for _, affected, _ in acts(program)] == [number]


async def test_an_unavailable_redis_gives_a_one_line_error(program: Program) -> None:
    program.environment |= {"CACHE_REDIS_URL": "redis://127.0.0.1:1/0"}
    runs = (("list",), ("stats",), ("get", "a:b"), ("evict-user", "anna", "--yes"), ("evict", "a:b", "--yes"))
    for done in await many(program, *cache(*runs)):
        assert (done.code, done.out, len(done.errors)) == (1, "", 1), done
        assert "the cache's Redis does not answer" in done.errors[0]
        assert "Traceback" not in done.err


async def test_the_fifth_view_of_the_running_program(program: Program, terminal: OpenTerminal) -> None:
    await fill(program)
    shown = terminal("--no-workers")
    await shown.shows("all well")
    shown.press("5")
    await shown.shows("5 entries · as of")
    await shown.shows("hit rate")
    shown.press("A")
    await shown.shows("Evict 5 entries?")
    shown.press("y")
    await shown.shows("5 entries evicted")
    await shown.shows("nothing is cached")
    shown.press("q")
    assert await shown.code() == 0
    assert (kept(program), acts(program)) == ([], [("cache evict", 5, "5 of 5 evicted")])


@pytest.mark.slow
async def test_the_demo_has_a_living_cache(program: Program) -> None:
    await program.start("--demo")
    await eventually(lambda: len(kept(program)) > 5, within=30, what="payloads are read")

    def read() -> bool:
        found = program.run("cache", "stats", "--json").json
        return bool(found["hits"] and found["misses"] and not found["errors"])

    await eventually(read, within=30, what="hits and misses")
    assert all(
        key.split(":")[1] in ("lisboa", "porto", "tromso", "singapore", "ushuaia") for key in kept(program)
    )


async def test_help_starts_nothing(program: Program) -> None:
    for name in ("list", "get", "evict", "evict-user", "stats"):
        done = program.run("cache", name, "--help")
        assert (done.code, done.err) == (0, "")
        assert f"cache {name}" in done.out
    assert not program.data_dir.exists()
