"""Refusals by Redis: commands end with one line, and a start waits only for refusals that pass."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.acceptance.served import QUEUE, served
from tests.support.program import Done, Program
from tests.support.servers import ValkeyServer, free_port
from tests.support.waiting import eventually

SECRET = "pa55word"
Fix = Callable[[], object]


class Surroundings:
    """A server of the test's own, and what was started beside it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.folder = directory / "valkey"
        self.url = ""

    def start(self, *options: str) -> redis.Redis:
        """Start a server; a client of it."""
        server = ValkeyServer(self.folder, *options)
        server.start()
        self._stack.callback(server.kill)
        self.url = server.url
        return self.client()

    def client(self) -> redis.Redis:
        return self._stack.enter_context(redis.Redis.from_url(self.url))

    def user(self, admin: redis.Redis, *rules: str) -> None:
        """Use the server as a user with these rules."""
        admin.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}", *rules)
        self.url = self.url.replace("//", f"//app:{SECRET}@")


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    with ExitStack() as stack:
        yield Surroundings(tmp_path, stack)


def busy(at: Surroundings) -> Fix:
    admin = at.start("--busy-reply-threshold", "50")
    endless = at.client()

    def run() -> None:
        with suppress(redis.RedisError):
            endless.eval("while true do end", 0)

    threading.Thread(target=run, daemon=True).start()
    _until_refused(admin.ping)
    return admin.script_kill


def misconf(at: Surroundings) -> Fix:
    """Its snapshots fail, since a folder is in their place."""
    admin = at.start("--dbfilename", "snapshot")
    (at.folder / "snapshot").mkdir()
    admin.config_set("save", "1 1")
    _until_refused(lambda: admin.set("test:key", "x"))
    return lambda: admin.config_set("stop-writes-on-bgsave-error", "no")


def readonly(at: Surroundings) -> Fix:
    admin = at.start()
    admin.replicaof("127.0.0.1", "1")
    return lambda: admin.replicaof("NO", "ONE")


def masterdown(at: Surroundings) -> Fix:
    admin = at.start()
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", "1")
    return lambda: admin.replicaof("NO", "ONE")


def noreplicas(at: Surroundings) -> Fix:
    admin = at.start()
    admin.config_set("min-replicas-to-write", 1)
    return lambda: admin.config_set("min-replicas-to-write", 0)


def maxclients(at: Surroundings) -> Fix:
    admin = at.start()
    admin.config_set("maxclients", 1)
    return lambda: admin.config_set("maxclients", 1000)


def loading(at: Surroundings) -> Fix:
    admin = at.start()
    admin.eval("for i = 1, 300 do redis.call('SET', 'test:' .. i, i) end", 0)
    with suppress(redis.RedisError):
        admin.config_set("key-load-delay", 10_000)
        admin.config_set("loading-process-events-interval-bytes", 1024)
    thread = threading.Thread(target=lambda: _quietly(admin.execute_command, "DEBUG", "RELOAD"), daemon=True)
    thread.start()
    _until_refused(at.client().ping, redis.BusyLoadingError)
    return lambda: None


def noperm(at: Surroundings) -> Fix:
    """The default of ACL SETUSER since Redis 7: all keys and commands, and no channel."""
    admin = at.start()
    at.user(admin, "~*", "+@all")
    return lambda: admin.execute_command("ACL", "SETUSER", "app", "&*")


def unknown(at: Surroundings) -> Fix:
    at.start("--rename-command", "EVALSHA", "")
    return lambda: None


def cluster(at: Surroundings) -> Fix:
    at.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    return lambda: None


def whole_cluster(at: Surroundings) -> Fix:
    admin = at.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    return lambda: None


def wrongtype(at: Surroundings) -> Fix:
    admin = at.start()
    for queue in (QUEUE, "moderation-review"):
        admin.set(f"saq:{queue}:queued", "x")
        admin.set(f"couturecast:{queue}:pause", "x")
    return lambda: admin.flushall()


def _quietly(act: Callable[..., object], *words: str) -> None:
    with suppress(redis.RedisError):
        act(*words)


def _until_refused(act: Callable[[], Any], kind: type[Exception] = redis.ResponseError) -> None:
    for _ in range(3_000):
        try:
            act()
        except kind:
            return
        threading.Event().wait(0.01)
    raise AssertionError("it is never refused")


PASSES: dict[str, tuple[Callable[[Surroundings], Fix], str]] = {
    "BUSY": (busy, "runs a script that does not end (BUSY): wait for its end, or stop it by SCRIPT KILL"),
    "MISCONF": (misconf, "cannot write to its disk, and so refuses writes (MISCONF): free its disk"),
    "READONLY": (readonly, "is a read-only replica (READONLY"),
    "MASTERDOWN": (masterdown, "has lost its primary (MASTERDOWN)"),
    "NOREPLICAS": (noreplicas, "too few replicas (NOREPLICAS): bring its replicas back"),
    "MAXCLIENTS": (maxclients, ""),  # its words may be lost with the connection
}
LASTS: dict[str, tuple[Callable[[Surroundings], Fix], str]] = {
    "NOPERM": (
        noperm,
        "user 'app' may not PUBLISH on the channel couturecast:nudge): ACL SETUSER app &*",
    ),
    "unknown command": (unknown, "lacks a command that is needed (unknown command 'EVALSHA'"),
    "cluster": (cluster, "runs in cluster mode"),
    "whole cluster": (whole_cluster, "runs in cluster mode"),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "enqueue": ("enqueue", "moderation-review", "--data", '{"content_id": "c1", "text": "a fine day"}'),
    "pause": ("pause", QUEUE),
    "resume": ("resume", QUEUE),
    "cache": ("cache", "stats"),
    "list": ("cache", "list"),
    "failed-jobs": ("failed-jobs", "replay", "1"),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in PASSES if name != "READONLY"]


def _line(done: Done) -> str:
    """The one error line."""
    assert "Traceback" not in done.err, done.err
    assert SECRET not in done.out + done.err
    assert len(done.errors) == 1, done.err
    return done.errors[0]


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("NOPERM", "wrongtype", "cluster")]


@pytest.mark.parametrize("kind", ["READONLY", *SLOW[:3], *OTHERS])
async def test_a_refusal_ends_a_command_with_one_line(
    kind: str, surroundings: Surroundings, program: Program
) -> None:
    provoke, says = {**PASSES, **LASTS, "wrongtype": (wrongtype, "")}[kind]
    provoke(surroundings)
    environment = {"REDIS_URL": surroundings.url, "COUTURECAST_START_PATIENCE": "1"}
    names = list(COMMANDS) if kind != "READONLY" else ["enqueue", "pause"]  # that one is to be quick
    calls = (asyncio.to_thread(program.run, *COMMANDS[name], **environment) for name in names)
    runs = dict(zip(names, await asyncio.gather(*calls), strict=True))
    for name, done in runs.items():
        assert "Traceback" not in done.err, done.err
        assert done.code in (0, 1, 2), name
    shown = runs.get("status")
    if shown is not None and shown.out:  # the picture, which says so itself
        assert "redis ok" not in shown.out or shown.code == 0
        del runs["status"]
    failed = {name: _line(done) for name, done in runs.items() if done.code != 0}
    assert failed or kind == "wrongtype"
    if kind in ("READONLY", "MISCONF", "BUSY"):
        assert says in failed["enqueue"]
        assert says in failed["pause"]
    if kind == "cluster":
        assert all("cluster mode" in line and "single endpoint" in line for line in failed.values())
        assert set(failed) == set(COMMANDS)
    if kind == "wrongtype":
        assert "enqueue" not in failed, "a producer has the keys repaired"


@pytest.mark.parametrize("kind", ["READONLY", *SLOW])
async def test_a_start_waits_for_what_passes(kind: str, surroundings: Surroundings, program: Program) -> None:
    provoke, says = PASSES[kind]
    fix = provoke(surroundings)
    starting = asyncio.create_task(program.start(REDIS_URL=surroundings.url))

    def waits() -> bool:
        assert not starting.done(), program.headless[0].err
        return bool(program.headless) and "waiting for Redis" in program.headless[0].err

    await eventually(waits, within=30)
    fix()
    started = await starting
    (waiting,) = [line for line in started.logged if line["event"] == "waiting for Redis"]
    assert says in waiting["cause"]
    assert await started.stop() == 0


@pytest.mark.parametrize("kind", ["READONLY", pytest.param("BUSY", marks=pytest.mark.slow)])
def test_a_start_ends_after_its_timeout(kind: str, surroundings: Surroundings, program: Program) -> None:
    provoke, says = PASSES[kind]
    provoke(surroundings)
    done = program.run("--no-ui", REDIS_URL=surroundings.url, COUTURECAST_START_PATIENCE="1")
    assert done.code == 1
    assert says in _line(done)
    assert _line(done).endswith("; given up after 1 s")


async def test_a_signal_ends_the_wait(surroundings: Surroundings, program: Program) -> None:
    readonly(surroundings)
    starting = asyncio.create_task(program.start(REDIS_URL=surroundings.url))
    await eventually(lambda: program.headless and "waiting for Redis" in program.headless[0].err, within=30)
    program.headless[0].process.terminate()
    with pytest.raises(AssertionError):  # it never was ready
        await starting
    assert await asyncio.to_thread(program.headless[0].process.wait, 40) == 0


@pytest.mark.parametrize("kind", LASTS)
def test_a_start_does_not_wait_for_what_lasts(
    kind: str, surroundings: Surroundings, program: Program
) -> None:
    provoke, says = LASTS[kind]
    provoke(surroundings)
    done = program.run("--no-ui", REDIS_URL=surroundings.url, COUTURECAST_START_PATIENCE="600")
    assert done.code == 2, done.err
    assert says in _line(done)


def test_the_right_that_is_missing_is_named_with_its_rule(
    surroundings: Surroundings, program: Program
) -> None:
    grant = noperm(surroundings)
    environment = {"REDIS_URL": surroundings.url, "COUTURECAST_START_PATIENCE": "600"}
    assert _line(program.run("--no-ui", **environment)).endswith(": ACL SETUSER app &*")
    report = program.run("doctor", "--json", **environment)
    found = {f"{item['group']} {item['check']}": item for item in report.json["items"]}
    for check in ("Redis messages", "Redis engine's rights"):
        assert (found[check]["state"], found[check]["mend"]) == ("wrong", "ACL SETUSER app &*")
        assert found[check]["consequence"] == "no process starts"
    grant()
    report = program.run("doctor", "--json", **environment)
    found = {f"{item['group']} {item['check']}": item for item in report.json["items"]}
    for check in ("Redis messages", "Redis engine's rights"):
        assert found[check]["state"] == "ok"


def test_the_doctor_names_cluster_mode(surroundings: Surroundings, program: Program) -> None:
    cluster(surroundings)
    report = program.run("doctor", "--json", REDIS_URL=surroundings.url)
    (role,) = (item for item in report.json["items"] if (item["group"], item["check"]) == ("Redis", "role"))
    assert role["state"] == "wrong"
    assert "cluster mode" in role["finding"]
    assert "single endpoint" in role["mend"]


def full(at: Surroundings) -> Fix:
    admin = at.client()
    admin.config_set("maxmemory", 1)
    return lambda: admin.config_set("maxmemory", 0)


def _replica(at: Surroundings) -> Fix:
    admin = at.client()
    admin.replicaof("127.0.0.1", "1")
    return lambda: admin.replicaof("NO", "ONE")


def _few_replicas(at: Surroundings) -> Fix:
    admin = at.client()
    admin.config_set("min-replicas-to-write", 1)
    return lambda: admin.config_set("min-replicas-to-write", 0)


def _no_channels(at: Surroundings) -> Fix:
    admin = at.client()
    admin.execute_command("ACL", "SETUSER", "default", "resetchannels")
    return lambda: admin.execute_command("ACL", "SETUSER", "default", "&*")


@pytest.mark.slow
def test_a_process_is_not_ready_while_redis_takes_no_writes(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    surroundings.start()
    cases = {
        "Redis is full (OOM)": full,
        "Redis is a read-only replica (READONLY)": _replica,
        "Redis refuses writes, as it has too few replicas (NOREPLICAS)": _few_replicas,
        "Redis does not permit our user what is needed (NOPERM)": _no_channels,
    }
    with served(tmp_path, REDIS_URL=surroundings.url) as running, running.client() as client:

        def reasons() -> list[str]:
            answer = client.get("/readyz")
            found: list[str] = answer.json()["reasons"]
            assert (answer.status_code == 200) is (found == [])
            return found

        def until(reason: list[str]) -> None:
            for _ in range(1_000):
                found = reasons()
                if found == reason:
                    return
                threading.Event().wait(0.02)
            raise AssertionError(f"{found} is not {reason}")

        for reason, provoke in cases.items():
            until([])
            fix = provoke(surroundings)
            until([reason])
            fix()
        until([])
        surroundings.client().set("test:key", "x")
        assert not re.search(r"Redis does not answer", running.log)
