"""Settings of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.process.demo import demo_settings
from app.settings import Settings


def test_the_failures_of_the_demo_notify_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo_settings(Settings.load(notify_urls="json://example.com")).notify_urls is None
