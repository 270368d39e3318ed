"""Broken settings keep the others, and their secrets are redacted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.doctor.checks.settings import load_settings
from app.doctor.redaction import known_secrets, mask_passwords, set_secrets
from app.doctor.results import describe_cause
from storage.errors import DatabaseUnavailableError


def test_broken_settings_keep_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "REDIS_URL": "http://h",
        "COUTURECAST_HTTP": "x",
        "DATABASE_URL": "sqlite:///d",
        "COUTURECAST_ALERT_BACKLOG": "20",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COUTURECAST_ALERT_FANOUT_TIMEOUT", "never")
    config = load_settings(data_dir=tmp_path / "data")
    assert len(config.problems) == 3
    assert config.is_broken("REDIS_URL")
    assert not config.is_broken("DATABASE_URL")
    assert config.settings.redis_url is None
    assert config.settings.database_url is not None
    assert config.settings.data_dir == tmp_path / "data"
    assert config.settings.thresholds.limit("backlog") == 20


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Conceals the secrets of an environment."""
    monkeypatch.chdir(tmp_path)

    def give(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        set_secrets(known_secrets())

    yield give
    set_secrets(())


@pytest.mark.parametrize(
    ("variable", "value", "secrets"),
    [
        ("REDIS_URL", "redis://u:p%40ssword@h:1/0", ["p%40ssword", "p@ssword"]),
        ("REDIS_URL", "broken://u:pass@wo/rd@h:1/0", ["pass@wo/rd"]),
        ("DATABASE_URL", "postgresql://u:s3cr[et@/d1?host=/x", ["s3cr[et"]),
        ("DATABASE_URL", "postgresql://u:s3cr\u2100et@h/x", ["s3cr\u2100et"]),
        ("DIRECT_URL", "postgresql://u@h/x?a=b&PassWord=hidden&sslpassword=key-word", ["hidden", "key-word"]),
        ("CACHE_REDIS_URL", "rediss://h?ssl_password=hidden", ["hidden"]),
        ("COUTURECAST_ADMIN_TOKEN", "http://[aaaabbbbccccdddd", []),
        ("OPENWEATHER_API_KEY", "open-sesame", ["open-sesame"]),
        (
            "COUTURECAST_NOTIFY_URLS",
            "slack://T1/B2/token mailto://ann:hidden@example.com",
            ["slack://T1/B2/token", "hidden", "mailto://ann:hidden@example.com"],
        ),
    ],
)
def test_secrets_are_redacted(
    given: Callable[..., None], variable: str, value: str, secrets: list[str]
) -> None:
    given(**{variable: value})
    for secret in secrets:
        assert describe_cause(ValueError(f"cannot read {secret}!")) == "cannot read ***!"


def test_only_foreign_words_are_redacted(given: Callable[..., None]) -> None:
    given(DATABASE_URL="postgresql://u:postgres@h/x", DIRECT_URL="postgresql://u:answer@h/x")
    away = DatabaseUnavailableError("postgresql://u:***@h/x does not answer: no answer for postgres")
    away.__cause__ = OSError("no answer for postgres")
    assert describe_cause(away) == "postgresql://u:***@h/x does not answer: no *** for ***"
    assert (
        describe_cause(DatabaseUnavailableError("postgresql:// does not answer"))
        == "postgresql:// does not answer"
    )


def test_passwords_of_unusual_urls_are_masked() -> None:
    assert mask_passwords("redis://u:a@b/c@h:1/0?x=1&SSL_PASSWORD=y is away") == (
        "redis://u:***@h:1/0?x=1&SSL_PASSWORD=*** is away"
    )
