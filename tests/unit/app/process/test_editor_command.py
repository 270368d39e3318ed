"""The editor of an operator who has named none."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.process.dashboard import editor_command


def test_vi_is_the_editor_if_none_is_named_and_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDITOR", "nano -w")
    assert editor_command() == "nano -w"
    monkeypatch.delenv("EDITOR")
    monkeypatch.delenv("VISUAL", raising=False)
    assert editor_command() is None
    vi = tmp_path / "vi"
    vi.touch(0o755)
    assert editor_command() == str(vi)
