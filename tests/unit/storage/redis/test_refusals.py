"""The table of what a Redis refuses, and the probe that must try all that the scripts do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import _AsyncRESP2Parser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

import storage
from storage.redis.refusals import MissingRightError, explain, reason, refusal_of
from workers.engine.probe import PROBE_SCRIPT

_ROOT = Path(storage.__file__).parents[1]
SCRIPTS = sorted(
    str(path.relative_to(_ROOT))
    for package in ("storage/redis", "workers")
    for path in (_ROOT / package).rglob("*.lua")
    if path.name != "probe.lua"
)

REPLIES = {
    "READONLY": "READONLY You can't write against a read only replica.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation, instance state changed",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "MAXCLIENTS": "ERR max number of clients reached",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": "CLUSTERDOWN Hash slot not served",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "MOVED": "MOVED 3999 127.0.0.1:6381",
    "CROSSSLOT": "CROSSSLOT Keys in request don't hash to the same slot",
    "NOPERM": "NOPERM User app has no permissions to run the 'publish' command",
    "NOAUTH": "WRONGPASS invalid username-password pair or user is disabled.",
    "UNKNOWN": "ERR unknown command 'BLMOVE', with args beginning with: ",
    "WRONGTYPE": "WRONGTYPE Operation against a key holding the wrong kind of value",
    "EXECABORT": "EXECABORT Transaction discarded because of previous errors.",
    "DATABASE": "ERR DB index is out of range",
}
CLOSES = {"READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED", "MAXCLIENTS", "CLUSTERDOWN"}
PASSES = CLOSES | {"BUSY", "MISCONF", "NOREPLICAS", "TRYAGAIN"}


@pytest.mark.parametrize("code", REPLIES)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "{} script: 6d3d1b2b8f1ea4e6a0f3bd2e5a0d7e4f0d1c2b3a, on @user_script:12.",
        "ERR Error running script (call to f_6d3d1b2b): @user_script:12: -{}",
    ],
    ids=["plain", "in a script", "in a script of Redis 6"],
)
def test_a_reply_is_known_wherever_it_comes_from(code: str, around: str) -> None:
    if code in ("MAXCLIENTS", "NOAUTH", "DATABASE", "LOADING", "MOVED") and around != "{}":
        return  # never in a script
    error = _AsyncRESP2Parser(65_536).parse_error(around.format(REPLIES[code]))
    refusal = refusal_of(error)
    assert refusal is not None
    assert (refusal.code, refusal.closes, refusal.passes) == (code, code in CLOSES, code in PASSES)
    line = explain(error)
    assert line.startswith("Redis ")
    assert "\n" not in line
    assert "127.0.0.1" not in line
    assert line.partition("): ")[2], "it says how to mend it"


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("Error 111 connecting to 127.0.0.1:1."),
        ResponseError("max daily request limit exceeded. Limit: 10000"),
        ResponseError("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        TimeoutError(),
        ResponseError('job READONLY-17 is scheduled for "x", which is no time'),
    ],
)
def test_what_is_not_in_the_table_keeps_its_own_words(error: Exception) -> None:
    assert refusal_of(error) is None
    assert str(error) in explain(error)
    assert reason(error).startswith(f"{type(error).__name__}: ")


@given(st.text(max_size=200))
def test_any_text_is_one_line(text: str) -> None:
    assert len(explain(ResponseError(text)).splitlines()) <= 1 or explain(ResponseError(text)).isprintable()


def test_rules_grant_what_is_missing() -> None:
    assert explain(MissingRightError("app", "run HSET", "+hset")).endswith(": ACL SETUSER app +hset")
    channel = ResponseError(
        "ACL failure in script: No permissions to access a channel script: on @user_script:1."
    )
    assert explain(channel).endswith(": ACL SETUSER NAME &*")
    key = ResponseError("ACL failure in script: No permissions to access a key script: on @user_script:1.")
    assert explain(key).endswith(": ACL SETUSER NAME ~saq:* ~couturecast:*")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_probe_tries_each_command_of_a_script(name: str) -> None:
    text = (_ROOT / name).read_text()
    text = text.replace("redis.pcall(command, ", "(")  # its callers name it
    used = set(re.findall(r"redis\.p?call\(\s*'(\w+)'", text) + re.findall(r"read\([^']*?, '(\w+)'", text))
    assert len(re.findall(r"redis\.p?call\b", text)) == len(re.findall(r"redis\.p?call\(\s*'", text)), (
        "a command that is not written out cannot be compared"
    )
    tried = set(re.findall(r"(?:\{|try\()'(\w+)'", PROBE_SCRIPT.text))
    assert used <= tried, f"add to probe.lua: {used - tried}"
