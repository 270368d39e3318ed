"""Who may use the dashboard in a browser."""

from __future__ import annotations

import pytest

from app.web import access
from app.web.access import LOGIN_SECONDS, Logins, is_own_host, is_same_origin

TOKEN = "correct-horse-battery-staple"


def test_a_login_reveals_nothing_of_the_token_and_no_other_process_takes_it() -> None:
    logins = Logins(TOKEN)
    value = logins.issue()
    assert logins.is_valid(value)
    assert TOKEN not in value
    assert value != logins.issue() or logins.is_valid(value)
    assert not Logins(TOKEN).is_valid(value)


@pytest.mark.parametrize("value", ["", ".", "9999999999.", "9999999999.ab", "x.y", "é.é", f"{TOKEN}.{TOKEN}"])
def test_an_invented_login_is_refused(value: str) -> None:
    assert not Logins(TOKEN).is_valid(value)


def test_a_login_expires_and_cannot_be_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins(TOKEN)
    value = logins.issue()
    until, _, signature = value.partition(".")
    assert not logins.is_valid(f"{int(until) + 1}.{signature}")
    monkeypatch.setattr(access.time, "time", lambda: int(until) - 1.0)
    assert logins.is_valid(value)
    monkeypatch.setattr(access.time, "time", lambda: float(until))
    assert not logins.is_valid(value)
    assert LOGIN_SECONDS > 0


@pytest.mark.parametrize("text", ["", "wrong", TOKEN[:-1], TOKEN.upper(), "é" * 16])
def test_only_the_token_is_the_token(text: str) -> None:
    assert Logins(TOKEN).is_token(f" {TOKEN}\n")
    assert not Logins(TOKEN).is_token(text)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("LOCALHOST:9000", True),
        ("127.0.0.1:8030", True),
        ("[::1]:8030", True),
        ("10.0.0.7", True),
        ("queues.example.com", True),
        ("Queues.Example.com:8443", True),
        ("evil.example.com", False),
        ("localhost.evil.example.com", False),
        ("127.0.0.1.evil.example.com", False),
        ("queues.example.com.evil.org", False),
        ("evil.org@localhost.org", False),
        ("", False),
        ("[", False),
        ("[::1", False),
    ],
)
def test_only_addresses_and_known_names_are_served(host: str, own: bool) -> None:
    assert is_own_host(host, {"queues.example.com"}) is own


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://localhost:8030", True),
        ("https://LOCALHOST:8030", True),
        ("http://localhost:9999", False),
        ("http://localhost", False),
        ("http://evil.example.com", False),
        ("http://localhost:8030.evil.example.com", False),
        ("ftp://localhost:8030", False),
        ("localhost:8030", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_pages_of_this_server_may_act(origin: str, same: bool) -> None:
    assert is_same_origin(origin, "localhost:8030") is same
