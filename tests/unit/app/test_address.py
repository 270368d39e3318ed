"""Addresses of HTTP, from settings and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.address import DEFAULT_ADDRESS, Address
from app.cli.serve import parse_http_option
from app.errors import UsageError
from app.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("COUTURECAST_HTTP", "COUTURECAST_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:8020", Address("127.0.0.1", 8020), "127.0.0.1:8020"),
        (" localhost:0 ", Address("localhost", 0), "localhost:0"),
        ("[::1]:8020", Address("::1", 8020), "[::1]:8020"),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535), "0.0.0.0:65535"),
    ],
)
def test_a_host_and_a_port_are_read_and_shown(text: str, address: Address, shown: str) -> None:
    assert Address.parse(text) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    "text",
    ["", "8020", ":8020", "host", "host:", "host:x", "::1:8020", "[::1]", "a b:1", "http://h:1", "h:1/"],
)
def test_an_invalid_address_gives_an_error_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"use for instance 127\.0\.0\.1:8020"):
        Address.parse(text)


def test_a_port_beyond_the_last_one() -> None:
    with pytest.raises(ValueError, match="ports end at 65535"):
        Address.parse("h:65536")


def test_the_default_address_is_the_loopback() -> None:
    settings = Settings.load(http=None)
    assert (settings.http, settings.http_was_set) == (DEFAULT_ADDRESS, False)


def test_the_variable_and_the_flag_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUTURECAST_HTTP", "[::1]:9")
    assert (Settings.load().http, Settings.load().http_was_set) == (Address("::1", 9), True)
    assert Settings.load(http=parse_http_option("localhost:8", no_http=False)).http == Address("localhost", 8)
    assert Settings.load(http=parse_http_option(None, no_http=True)).http is None
    monkeypatch.setenv("COUTURECAST_HTTP", "none")
    assert Settings.load().http is None


def test_both_flags_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        parse_http_option("localhost:8", no_http=True)


def test_a_token_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUTURECAST_ADMIN_TOKEN", "sixteen-letters.")
    settings = Settings.load()
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "sixteen-letters."
    assert "sixteen" not in repr(settings)
    monkeypatch.setenv("COUTURECAST_ADMIN_TOKEN", "fifteen-letters")
    with pytest.raises(UsageError, match=r"COUTURECAST_ADMIN_TOKEN: .*use 16 or more letters"):
        Settings.load()
