"""Private files."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.files import atomic_private_file, create_private_file


def test_a_created_file_and_its_folders_are_private(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    create_private_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.write_text("data")
    create_private_file(path)
    assert path.read_text() == "data"


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_private_file(path) as file:
        file.write("new \ud800")
        assert path.read_text() == "old"
    assert path.read_text() == "new \\ud800"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with atomic_private_file(path) as file:
            file.write("new")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
