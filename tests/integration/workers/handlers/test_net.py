"""Downloads that cannot be pointed at the inside of our own network, over real connections."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from couturecast_handlers import PermanentError
from tests.integration.workers.handlers.conftest import Answer, Request, Serve, Server, hang
from workers.handlers import http_client as net
from workers.handlers.http_client import DownloadError, DownloadTooLargeError, ForbiddenAddressError


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client that may reach the test's server."""
    async with net.client(allow_private_addresses=True, timeout=5) as client:
        yield client


@pytest.fixture
async def guarded() -> AsyncIterator[httpx.AsyncClient]:
    """A client for public addresses only."""
    async with net.client(allow_private_addresses=False, timeout=5) as client:
        yield client


async def get(http: httpx.AsyncClient, url: str, *, max_bytes: int = 100, seconds: float = 5.0) -> bytes:
    return await net.download(http, url, max_bytes=max_bytes, seconds=seconds)


def redirect(url: str, status: int = 302) -> Answer:
    return Answer(status, headers={"Location": url})


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 1000


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"],
)
async def test_loopback_is_refused_however_it_is_written(
    guarded: httpx.AsyncClient, server: Server, host: str
) -> None:
    with pytest.raises(ForbiddenAddressError, match="not a public address"):
        await get(guarded, server.url("/a", host=host))
    assert server.requests == []


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "[fd00::1]", "[fe80::1]", "[64:ff9b::a00:1]"]
)
async def test_private_and_link_local_addresses_are_refused(guarded: httpx.AsyncClient, host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await get(guarded, f"http://{host}/latest/meta-data/")


async def test_a_redirect_to_a_private_address_is_refused(
    guarded: httpx.AsyncClient, serve: Serve, only_public: None
) -> None:
    outside, inside = await serve("127.0.0.1"), await serve("127.0.0.2")
    outside.answers["/a"] = redirect(inside.url("/secret"))
    inside.answers["/secret"] = Answer(200, b"secret")
    with pytest.raises(ForbiddenAddressError, match=r"127\.0\.0\.2"):
        await get(guarded, outside.url("/a"))
    assert (len(outside.requests), inside.requests) == (1, [])


async def test_a_name_is_not_resolved_again_after_its_check(
    guarded: httpx.AsyncClient, serve: Serve, only_public: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = await serve("127.0.0.1")
    inside = await serve("127.0.0.2", port=outside.port)
    outside.answers["/a"] = Answer(200, b"picture")
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *arguments: Any, **options: Any) -> Any:
        """Resolve a name as an attacker's name server does."""
        if host == "rebind.test":
            looked_up.append(host)
            host = "127.0.0.1" if len(looked_up) == 1 else "127.0.0.2"
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert await get(guarded, outside.url("/a", host="rebind.test")) == b"picture"
    assert (len(looked_up), inside.requests) == (1, [])
    assert outside.requests[0].headers["host"] == f"rebind.test:{outside.port}"


async def test_redirects_between_public_addresses_are_followed(
    guarded: httpx.AsyncClient, server: Server, only_public: None
) -> None:
    server.answers |= {
        "/a": redirect("/b", 301),
        "/b": redirect(server.url("/c"), 307),
        "/c": redirect("d", 308),
        "/d": Answer(200, b"picture"),
    }
    assert await get(guarded, server.url("/a")) == b"picture"
    server.answers["/d"] = redirect("/a")
    with pytest.raises(PermanentError, match="more than 3 redirects"):
        await get(guarded, server.url("/a"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/x", "gopher://127.0.0.1/"])
async def test_a_redirect_leads_to_no_other_scheme(
    http: httpx.AsyncClient, server: Server, target: str
) -> None:
    server.answers["/a"] = redirect(target)
    with pytest.raises(PermanentError, match=r"no http\(s\) URL"):
        await get(http, server.url("/a"))


async def test_cookies_are_not_kept_between_downloads(http: httpx.AsyncClient, server: Server) -> None:
    server.answers["/a"] = Answer(200, b"x", {"Set-Cookie": "session=1; Path=/"})
    await get(http, server.url("/a"))
    await get(http, server.url("/a"))
    assert ["cookie" in request.headers for request in server.requests] == [False, False]


@pytest.mark.parametrize("body", [b"x" * 101, b"x" * 1_000_000])
async def test_a_body_that_is_too_large_is_refused_by_its_length(
    http: httpx.AsyncClient, server: Server, body: bytes
) -> None:
    server.answers["/a"] = Answer(200, body)
    with pytest.raises(DownloadTooLargeError, match="larger than 100 bytes"):
        await get(http, server.url("/a"))
    server.answers["/a"] = Answer(200, body[:100])
    assert len(await get(http, server.url("/a"))) == 100


async def test_a_body_without_an_end_is_cut_off_at_its_size(http: httpx.AsyncClient, server: Server) -> None:
    server.answers["/a"] = Answer(200, more=endless())
    with pytest.raises(DownloadTooLargeError):
        await get(http, server.url("/a"), max_bytes=50_000)


async def test_a_compressed_body_does_not_unfold(http: httpx.AsyncClient, server: Server) -> None:
    packed = gzip.compress(b"\x00" * 10_000_000)
    server.answers["/a"] = Answer(200, packed, {"Content-Encoding": "gzip"})
    assert await get(http, server.url("/a"), max_bytes=20_000) == packed
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_slow_body_is_given_up_when_its_time_is_over(http: httpx.AsyncClient, server: Server) -> None:
    server.answers["/a"] = Answer(200, more=drip())
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 took longer than 0\.3 s"):
        await get(http, server.url("/a"), seconds=0.3)


async def test_a_server_that_does_not_answer_gives_a_readable_error(server: Server) -> None:
    server.answers["/a"] = hang
    async with net.client(allow_private_addresses=True, timeout=0.2) as http:
        with pytest.raises(DownloadError, match=r"from 127\.0\.0\.1 failed: ReadTimeout"):
            await get(http, server.url("/a"))


async def test_a_refused_connection_may_pass(http: httpx.AsyncClient, server: Server) -> None:
    url = server.url("/a")
    await server.stop()
    with pytest.raises(DownloadError, match=r"from 127\.0\.0\.1 failed: \w"):
        await get(http, url)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_answers_that_mean_later_are_retried(
    http: httpx.AsyncClient, server: Server, status: int
) -> None:
    server.answers["/a"] = Answer(status)
    with pytest.raises(DownloadError, match=f"answers {status}"):
        await get(http, server.url("/a"))


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 451])
async def test_other_answers_are_final(http: httpx.AsyncClient, server: Server, status: int) -> None:
    server.answers["/a"] = Answer(status)
    with pytest.raises(PermanentError, match=f"answers {status}"):
        await get(http, server.url("/a"))


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x",
        "http://[::1",
        "http://xn--/",
        "http://a..b/",
        "http://127.0.0.1:99999/",
        "http://user:hidden@host:x/",
        "https://" + "a" * 300 + ".com/",
        "http://" + "ü" * 100 + ".com/",
        "http://\x00/",
    ],
)
async def test_what_is_no_url_is_final(guarded: httpx.AsyncClient, url: str) -> None:
    with pytest.raises(PermanentError) as raised:
        await get(guarded, url)
    assert "hidden" not in str(raised.value)


async def test_messages_name_the_host_and_not_the_url(http: httpx.AsyncClient, server: Server) -> None:
    url = server.url("/a?signature=hidden").replace("http://", "http://user:hidden@")
    server.answers["/a"] = Answer(403)
    with pytest.raises(PermanentError, match=r"127\.0\.0\.1 answers 403") as refused:
        await get(http, url)
    await server.stop()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1") as failed:
        await get(http, url)
    assert "hidden" not in f"{refused.value} {failed.value}"


async def test_the_name_in_the_url_is_what_the_certificate_is_checked_against(
    serve: Serve, only_public: None, trusted_certificate: None
) -> None:
    server = await serve(tls=True)
    server.answers["/a"] = Answer(200, b"picture")
    async with net.client(allow_private_addresses=False, timeout=5) as http:
        assert await get(http, server.url("/a", host="localhost")) == b"picture"
        with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
            await get(http, server.url("/a", host="127.0.0.1"))


async def test_a_certificate_of_an_unknown_authority_is_refused(
    serve: Serve, http: httpx.AsyncClient
) -> None:
    server = await serve(tls=True)
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        await get(http, server.url("/a", host="localhost"))
    assert server.requests == []


async def test_an_exchange_reads_the_body_of_a_success_only(http: httpx.AsyncClient, server: Server) -> None:
    async def echo(request: Request) -> Answer:
        return Answer(200, request.body)

    server.answers |= {"/echo": echo, "/endless": Answer(500, more=endless())}
    exchanged = await net.request_limited(
        http, "POST", server.url("/echo"), max_bytes=100, seconds=5, json={"input": 1}
    )
    assert exchanged == (200, b'{"input":1}')
    assert await net.request_limited(http, "GET", server.url("/endless"), max_bytes=100, seconds=5) == (
        500,
        b"",
    )
    with pytest.raises(DownloadTooLargeError):
        await net.request_limited(
            http, "POST", server.url("/echo"), max_bytes=5, seconds=5, json={"input": 1}
        )
