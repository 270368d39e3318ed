"""The table of processes on terminals of any width."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support.fake_moments import HEALTHY
from tests.support.fake_workers import DEAD, DRAINING, RUNNING
from tui.text.worker_table import worker_heading, worker_line
from workers.operations.worker_list import list_workers

WIDTHS = range(60, 201)
WORKERS = list_workers((RUNNING, DRAINING, DEAD), HEALTHY.queues)

READY = {"running": ("yes",), "draining": ("22 s left",), "dead": ("its 2 jobs wait", "wait for")}


@pytest.mark.parametrize("width", WIDTHS)
def test_no_column_is_cut_to_an_ellipsis(width: int) -> None:
    for worker in WORKERS:
        line = worker_line(worker, width, own=False)
        line.truncate(width, overflow="ellipsis")
        ready = line.plain[worker_heading(width).plain.index("ready") :]
        assert ready.startswith(READY[worker.state])


@pytest.mark.parametrize("width", range(80, 201))
@pytest.mark.parametrize("jobs", [1, 3, 45])
def test_it_is_never_cut_when_the_jobs_of_a_dead_process_run_again(width: int, jobs: int) -> None:
    dead = replace(WORKERS[-1], in_flight=jobs, recover_in=3.0)
    assert dead.state == "dead"
    line = worker_line(dead, width, own=False)
    line.truncate(width, overflow="ellipsis")
    assert line.plain.endswith("again in 3.0 s")


@pytest.mark.parametrize("width", WIDTHS)
def test_headings_fit(width: int) -> None:
    assert worker_heading(width).cell_len <= width


def test_a_wider_terminal_never_has_fewer_columns() -> None:
    columns = [len(worker_heading(width).plain.replace("loop p99", "loop").split()) for width in WIDTHS]
    assert all(before <= after for before, after in pairwise(columns))
