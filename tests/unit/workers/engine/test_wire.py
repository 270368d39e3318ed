"""Records are read as SAQ reads them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from saq import Job, Status
from saq.queue.base import Queue

from workers.engine.wire import make_job

QUEUE: Any = SimpleNamespace(name="color-extraction")
LEAST = {"function": "extract_colors", "key": "dress-1", "queue": "color-extraction"}


def as_saq(value: dict[str, Any]) -> Job | None:
    return Queue.deserialize(QUEUE, value)


QUEUE.deserialize = as_saq


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"kwargs": {"item_id": "a"}, "attempts": 2, "status": "active", "meta": {"a": 1}, "queued": 5},
        {
            "status": "aborting",
            "progress": 0.5,
            "result": [1],
            "error": "x",
            "scheduled": 7,
            "worker_id": "w",
        },
        {"meta": None, "kwargs": None, "timeout": 3, "retries": 9, "priority": 1, "group_key": "g"},
    ],
)
def test_a_job_is_made_as_saq_makes_it(more: dict[str, Any]) -> None:
    value = LEAST | more
    made, expected = make_job(copy.deepcopy(value), QUEUE), as_saq(copy.deepcopy(value))
    assert expected is not None
    assert vars(made) == vars(expected)
    assert isinstance(made.status, Status)


def test_two_jobs_do_not_share_their_meta() -> None:
    first, second = make_job(dict(LEAST), QUEUE), make_job(dict(LEAST), QUEUE)
    first.meta["a"] = 1
    assert second.meta == {}


@pytest.mark.parametrize(
    "value",
    [
        {},
        LEAST | {"colour": "red"},
        LEAST | {"queue": "alert-fanout"},
        LEAST | {"status": "dancing"},
        {"function": "extract_colors", "key": "dress-1"},
        {"key": "dress-1", "queue": "color-extraction"},
    ],
)
def test_what_saq_refuses_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        make_job(value, QUEUE)
