"""The dashboard of an operator who has no account on its machine, as in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from textual.app import SuspendNotSupported

from tests.support.dashboards import letters_view, until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.driver import NonBlockingDriver
from workers.operations.operations import Operations


@pytest.mark.parametrize("remote", [True, False])
async def test_a_remote_operator_writes_no_file_on_this_machine(
    remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = Dashboard(cast(Operations, CannedOperations(HEALTHY, 3)), remote=remote)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("E")
        if remote:
            await until(pilot, lambda: any("nothing is exported" in n.message for n in app._notifications))
            assert len(app.screen_stack) == 1
        else:
            await until(pilot, lambda: len(app.screen_stack) == 2)
    assert os.listdir(tmp_path) == []


async def test_only_in_a_terminal_of_this_machine_another_program_may_be_started() -> None:
    remote, local = (
        NonBlockingDriver(Dashboard(cast(Operations, CannedOperations(HEALTHY)), remote=remote))
        for remote in (True, False)
    )
    assert not remote.can_suspend
    assert local.can_suspend
    app = remote._app
    app._driver = remote
    with pytest.raises(SuspendNotSupported), app.suspend():
        pass
