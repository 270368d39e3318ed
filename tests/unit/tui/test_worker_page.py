"""The page of one worker process."""

from __future__ import annotations

from dataclasses import replace

from tests.support.fake_moments import HEALTHY
from tui.text import worker_page
from workers.engine.policy import COLOR, DEFAULT_POLICIES


def test_a_process_that_runs_a_handler_inline_differs_from_the_others() -> None:
    policy, worker = DEFAULT_POLICIES[COLOR], HEALTHY.workers[0]
    own = replace(worker, settings={COLOR: replace(policy, run="inline").settings()})
    other = replace(worker, settings={COLOR: policy.settings()})
    words = worker_page.settings(own, [other, other]).plain
    assert words.strip() == f"{COLOR}: run inline, usually process"
    assert "the same" in worker_page.settings(other, [other, other]).plain
