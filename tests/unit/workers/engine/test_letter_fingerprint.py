"""The fingerprint of a letter, from the records of its attempts."""

from __future__ import annotations

from typing import Any

import pytest
from saq import Job

from tests.support.failures import HERE, Shop, fail, nested, raised
from workers.engine import outcome
from workers.engine.attempts import attempts_of, failed_attempt
from workers.engine.fingerprint import fingerprint
from workers.engine.letter_encoding import make_letter, unreadable_letter
from workers.engine.policy import QueuePolicy
from workers.engine.settlement import LeasedJob

POLICY = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)


class NamedQueue:
    name = "color-extraction"

    def job_id(self, key: str) -> str:
        return f"saq:job:{self.name}:{key}"


def job(**fields: Any) -> Job:
    made = Job("extract_colors", kwargs={"a": 1}, key="k", **fields)
    made.queue = NamedQueue()
    return made


def attempt(error: BaseException, number: int = 1) -> dict[str, Any]:
    return failed_attempt(error, number=number, failed_at=1.0, worker="w", run_seconds=0.1)


def test_a_letter_is_named_by_its_last_attempt() -> None:
    first, last = attempt(raised(Shop().sell)), attempt(raised(nested()), 2)
    assert (first["frame"], last["frame"]) == (f"{HERE}:fail", f"{HERE}:nested.<locals>.inner")
    assert first["message"] == last["message"]
    letter = make_letter(job(), [first, last])
    expected = fingerprint("color-extraction", "extract_colors", "ValueError", "no", last["frame"])
    assert letter.fingerprint == expected
    assert letter.fingerprint != make_letter(job(), [last, first]).fingerprint


def test_one_error_in_two_queues_is_two() -> None:
    record = attempt(raised(fail))
    assert len({unreadable_letter(queue, "k", b"", record).fingerprint for queue in ("a", "b")}) == 2


def test_the_record_of_an_earlier_version_is_one() -> None:
    record = attempt(raised(fail))
    earlier = {name: value for name, value in record.items() if name != "frame"}
    assert attempts_of(job(meta={"couturecast": {"attempts": [earlier, record]}})) == [earlier, record]
    expected = fingerprint("color-extraction", "extract_colors", "ValueError", "no", None)
    assert make_letter(job(), [earlier]).fingerprint == expected


@pytest.mark.parametrize("frame", [1, ["a"], {}, True])
def test_a_frame_of_another_kind_makes_it_no_record(frame: Any) -> None:
    record = attempt(raised(fail)) | {"frame": frame}
    assert attempts_of(job(meta={"couturecast": {"attempts": [record]}})) == []


def test_a_crash_has_a_fingerprint_without_a_frame() -> None:
    running = job(attempts=1)
    taken = LeasedJob("saq:job:color-extraction:k", b"w:1:2", b"{}")
    settlement = outcome.worker_died(taken, running, RuntimeError("died"), policy=POLICY, worker="w")
    assert settlement.verb == "return"
    (record,) = attempts_of(running)
    assert (record["frame"], record["traceback"]) == (None, None)
