"""Every kind of REDIS_URL carries a job through its life; what is wrong with one is said in one line."""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from storage.redis.client import make_client, make_sync_client
from storage.redis.pipeline import PipelineConnection
from tests.support.program import Done, Headless, Program
from tests.support.servers import TlsForwarder, ValkeyServer
from tests.support.waiting import eventually

QUEUE = "color-extraction"
SECRET = "s3cr:t/@"
QUOTED = "s3cr%3At%2F%40"
HANDLER = """
import asyncio


async def work(ctx, fails=0, seconds=0):
    await asyncio.sleep(seconds)
    if ctx["job"].attempts <= fails:
        raise RuntimeError("told to fail")
"""


@dataclass(frozen=True)
class Redises:
    """One server, and the ways to it."""

    plain: int
    tls: int
    wrong_host: int
    socket: str
    ca: Path


@pytest.fixture(scope="module")
def redises(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redises]:
    directory = tmp_path_factory.mktemp("redis")
    with tempfile.TemporaryDirectory(prefix="cc-", dir="/tmp") as short:
        socket = f"{short}/valkey.sock"
        server = ValkeyServer(directory / "valkey", "--unixsocket", socket)
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", "app", "reset", "on", f">{SECRET}", "~*", "&*", "+@all")
        authority = trustme.CA()
        forwarders = []
        for host in ("localhost", "elsewhere.example"):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert(host).configure_cert(context)
            forwarders.append(TlsForwarder(server.port, context))
            forwarders[-1].start()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        right, wrong = forwarders
        yield Redises(server.port, right.port, wrong.port, socket, directory / "ca.pem")
        for forwarder in forwarders:
            forwarder.stop()
        server.kill()


URLS = {
    "redis": "redis://localhost:{server.plain}",
    "a user, a password and a database": f"redis://app:{QUOTED}@localhost:{{server.plain}}/3",
    "a password among the parameters": f"redis://localhost:{{server.plain}}?db=4&username=app&password={QUOTED}",
    "rediss": f"rediss://app:{QUOTED}@localhost:{{server.tls}}/5?ssl_ca_certs={{server.ca}}",
    "rediss unchecked": f"rediss://app:{QUOTED}@127.0.0.1:{{server.tls}}/6?ssl_cert_reqs=none",
    "unix": f"unix://app:{QUOTED}@{{server.socket}}?db=7",
}
OTHERS = sorted(URLS.keys() - {"rediss", "unix"})


@pytest.mark.parametrize(
    "kind", ["rediss", "unix", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)]
)
async def test_a_job_lives_and_dies_by_every_kind_of_url(
    kind: str, redises: Redises, program: Program
) -> None:
    (program.directory / "ours.py").write_text(HANDLER)
    program.environment |= {
        "REDIS_URL": URLS[kind].format(server=redises),
        "COUTURECAST_HANDLERS": f"{QUEUE}=ours:work",
        "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "0.1,0.1",
        "COUTURECAST_DRAIN_SECONDS": "0.2",
    }
    headless = await program.start("--queues", QUEUE)
    for data in ({"fails": 0}, {"fails": 1}, {"fails": 9}):
        assert program.run("enqueue", QUEUE, "--data", json.dumps(data)).code == 0
    await eventually(lambda: _ended(program) == [2, 3, 1], within=30)
    (letter,) = program.run("failed-jobs", "list", "--json").json["items"]
    assert letter["error_message"] == "told to fail"
    assert program.run("enqueue", QUEUE, "--data", '{"seconds": 600}').code == 0
    await eventually(lambda: _queue(program)["in_flight"] == 1, within=30)
    assert await headless.stop() == 3
    assert (_ended(program), _queue(program)["depth"]) == ([2, 3, 1], 1)
    assert ("the certificate is not checked" in headless.err) == (kind == "rediss unchecked")
    _tells_no_secret(headless)


@pytest.mark.parametrize("kind", URLS)
async def test_every_kind_of_connection_reads_the_same_url(kind: str, redises: Redises) -> None:
    url = URLS[kind].format(server=redises)
    client, line, thread = make_client(url), PipelineConnection(url), make_sync_client(url)
    thread.set("test:who", kind)  # in the database that the URL names
    assert await client.get("test:who") == kind.encode()
    assert await line.round_trip([("GET", "test:who")]) == [kind.encode()]
    thread.close()
    await line.close()
    await client.aclose()


def _queue(program: Program) -> dict[str, Any]:
    done = program.run("status", "--json")
    (found,) = [queue for queue in done.json["queues"] if queue["name"] == QUEUE]
    assert "s3cr" not in done.out + done.err
    return dict(found)


def _ended(program: Program) -> list[int]:
    found = _queue(program)
    return [found["completed"], found["retried"], found["dead_lettered"]]


def _tells_no_secret(ended: Headless | Done) -> None:
    assert "s3cr" not in ended.err


WRONG = {
    "an unknown CA": (
        f"rediss://app:{QUOTED}@localhost:{{server.tls}}/0",
        ("certificate is of an unknown authority", "?ssl_ca_certs=/path/ca.pem"),
    ),
    "another host": (
        f"rediss://app:{QUOTED}@localhost:{{server.wrong_host}}?ssl_ca_certs={{server.ca}}",
        ("certificate is of another host", "localhost", "use the host that the certificate names"),
    ),
    "a file that is not there": (
        "rediss://localhost:{server.tls}?ssl_ca_certs=/nowhere/ca.pem",
        ("/nowhere/ca.pem: No such file", "as PEM"),
    ),
    "a file that holds no certificate": (
        f"rediss://localhost:{{server.tls}}?ssl_ca_certs={__file__}",
        ("it holds no certificate", "as PEM"),
    ),
    "TLS to a server without": (
        f"rediss://app:{QUOTED}@localhost:{{server.plain}}",
        ("the server does not use TLS: use redis://",),
    ),
    "no TLS to a server with": (
        f"redis://app:{QUOTED}@localhost:{{server.tls}}",
        ("the server uses TLS: use rediss://",),
    ),
    "a wrong password": (
        "redis://app:s3cr3t@localhost:{server.plain}",
        ("redis://app:***@localhost", "refuses user or password"),
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("status",), id="status"),
        pytest.param(("--no-ui",), id="headless", marks=pytest.mark.slow),
    ],
)
def test_an_unusable_url_gives_one_line_at_once(
    kind: str, arguments: tuple[str, ...], redises: Redises, program: Program
) -> None:
    url, parts = WRONG[kind]
    # it would wait so long for a server that may come back
    done = program.run(*arguments, REDIS_URL=url.format(server=redises), COUTURECAST_START_PATIENCE="600")
    assert (done.code, done.out, len(done.errors)) == (2, "", 1), done.err
    for part in ("error: REDIS_URL: redis", *parts):
        assert part in done.errors[0]
    _tells_no_secret(done)
