"""The data directory, found without the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment import data_directory, default_data_dir
from app.settings import Settings


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COUTURECAST_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flag", "variable", "line", "expected"),
    [
        (None, None, "", default_data_dir()),
        (None, "", "", default_data_dir()),
        (None, None, "COUTURECAST_DATA_DIR=/from/file\n", Path("/from/file")),
        (None, "/from/environment", "COUTURECAST_DATA_DIR=/from/file\n", Path("/from/environment")),
        (Path("/from/flag"), "/from/environment", "COUTURECAST_DATA_DIR=/from/file\n", Path("/from/flag")),
        (None, "~/data", "", Path.home() / "data"),
    ],
)
def test_the_data_directory_is_that_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, flag: Path | None, variable: str | None, line: str, expected: Path
) -> None:
    Path(".env").write_text(line)
    if variable is not None:
        monkeypatch.setenv("COUTURECAST_DATA_DIR", variable)
    assert data_directory(flag) == expected
    assert Settings.load(data_dir=flag).data_dir == expected
