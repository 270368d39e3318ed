"""The dashboard remembers what it showed; a broken file is no error."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import cast

import pytest

from tests.support.dashboards import until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.jobs.list import JobsScreen
from tui.state import STATE_FILE, RememberedState
from tui.widgets.group_table import GroupTable
from workers.operations.operations import Operations


def remember(folder: Path, name: str, value: str) -> None:
    """Remember a text, as a run that ends does."""
    state = RememberedState(folder)
    state.set(name, value)
    state.save()


def test_what_is_remembered_is_there_in_the_next_run(tmp_path: Path) -> None:
    remember(tmp_path, "view", "cache")
    remember(tmp_path, "theme", "nord")
    state = RememberedState(tmp_path)
    assert (state.get("view"), state.get("theme"), state.get("sort")) == ("cache", "nord", None)
    assert stat.S_IMODE((tmp_path / STATE_FILE).stat().st_mode) == 0o600
    remember(tmp_path, "view", "")
    assert RememberedState(tmp_path).get("view") is None
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"view": "ca',
        b"\xff\xfe",
        b"[1]",
        b'"x"',
        b'{"view": 7}',
        b"[" * 60_000,
        b'{"a":"' + b"x" * 70_000,
    ],
)
def test_a_broken_file_is_ignored_and_written_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)
    state = RememberedState(tmp_path)
    assert state.get("view") is None
    state.set("view", "cache")
    assert not state.is_saved
    state.save()
    assert state.is_saved
    assert RememberedState(tmp_path).get("view") == "cache"


def test_a_pipe_a_folder_and_a_link_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    os.mkfifo(path)
    assert RememberedState(tmp_path).get("view") is None
    path.unlink()
    path.mkdir()
    remember(tmp_path, "view", "cache")
    path.rmdir()
    (tmp_path / "other").write_text('{"view": "cache"}')
    path.symlink_to(tmp_path / "other")
    assert RememberedState(tmp_path).get("view") is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    state = RememberedState(tmp_path / "missing")
    state.set("view", "cache")
    state.save()
    assert state.get("view") == "cache"


@pytest.mark.slow
async def test_the_last_view_is_shown_again(tmp_path: Path) -> None:
    for _ in range(2):
        app = Dashboard(cast(Operations, CannedOperations(HEALTHY)), data_dir=tmp_path)
        async with app.run_test(size=(120, 36)) as pilot:
            await pilot.pause()
            if app.session.state.get("view") is None:
                await pilot.press("5")
                await pilot.pause()
            assert isinstance(app.screen, CacheScreen)


async def test_an_unknown_view_and_theme_are_ignored(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text('{"view": "nowhere", "theme": "none"}')
    app = Dashboard(cast(Operations, CannedOperations(HEALTHY)), data_dir=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert app.current_mode == "overview"


@pytest.mark.slow
async def test_a_filter_is_remembered_and_one_that_cannot_be_read_is_dropped(tmp_path: Path) -> None:
    for text, shown in (("queue:alert-fanout", "queue:alert-fanout"), ("state:nowhere", "")):
        (tmp_path / STATE_FILE).write_text(f'{{"letters_filter": "{text}", "view": "letters"}}')
        app = Dashboard(cast(Operations, CannedOperations(HEALTHY)), data_dir=tmp_path)
        async with app.run_test(size=(120, 36)) as pilot:
            await pilot.pause(0.3)
            assert isinstance(app.screen, DeadLettersScreen)
            assert app.screen.filter_text() == shown


@pytest.mark.slow
async def test_the_list_of_jobs_and_the_groups_of_letters_are_shown_again(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text('{"jobs-tab": "done", "letters-grouped": "yes", "view": "letters"}')
    app = Dashboard(cast(Operations, CannedOperations(HEALTHY)), data_dir=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.screen.query(GroupTable) and app.screen.query_one(GroupTable).display)
        await pilot.press("3")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and app.screen.page is not None)
        assert isinstance(app.screen, JobsScreen)
        assert app.screen.state.filter.tab == "done"
        await pilot.press("right")
        await until(pilot, lambda: app.session.state.get("jobs-tab") == "failed")


async def test_an_unknown_list_of_jobs_is_ignored(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text('{"jobs-tab": "nowhere", "view": "jobs"}')
    app = Dashboard(cast(Operations, CannedOperations(HEALTHY)), data_dir=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and app.screen.page is not None)
        assert isinstance(app.screen, JobsScreen)
        assert app.screen.state.filter.tab == "running"
