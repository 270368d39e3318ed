"""Command and environment of a session of the dashboard in a browser."""

from __future__ import annotations

import pytest

from app.cli.browser import _session_environment


def test_a_session_gets_no_token_and_only_reads_unless_writable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COUTURECAST_ADMIN_TOKEN", "correct-horse")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COUTURECAST_READ_ONLY", raising=False)
    environment = _session_environment(writable=False)
    assert "correct-horse" not in environment.values()
    assert environment["COUTURECAST_READ_ONLY"] == "1"
    assert environment["TERM"] == "xterm-256color"
    assert "COUTURECAST_READ_ONLY" not in _session_environment(writable=True)
