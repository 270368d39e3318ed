"""Decisions of the engine, without any server."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saq import Job, Status

from couturecast_handlers import PermanentError
from storage.redis.client import redact_url
from tui.text import format as shown
from workers.engine import histogram, outcome, wire
from workers.engine.attempts import attempts_of, failed_attempt
from workers.engine.letter_encoding import decode_letter, encode_letter, make_letter
from workers.engine.payload_limits import check_payload
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy
from workers.engine.settlement import LeasedJob
from workers.errors import InvalidJobError

POLICY = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)
TAKEN = LeasedJob("saq:job:color-extraction:k", b"w:1:2", b"{}")


class NamedQueue:
    name = "color-extraction"

    def job_id(self, key: str) -> str:
        return f"saq:job:{self.name}:{key}"


def job(**fields: Any) -> Job:
    made = Job("extract_colors", kwargs={"a": 1}, key="k", **fields)
    made.queue = NamedQueue()
    return made


def error(kind: type[Exception] = RuntimeError, text: str = "no") -> Exception:
    try:
        raise kind(text)
    except kind as raised:
        return raised


def test_the_policy_table() -> None:
    rows = {
        name: (p.function, p.concurrency, p.timeout, str(p.rate_limit), p.retry_delays, p.max_attempts)
        for name, p in DEFAULT_POLICIES.items()
    }
    assert rows == {
        "weather-ingestion": ("ingest_weather", 10, 30, "60/60", (1, 5, 25), 4),
        "alert-fanout": ("fan_out_alert", 20, 10, "None", (1, 5, 25), 4),
        "color-extraction": ("extract_colors", 5, 60, "None", (1, 5, 25), 4),
        "moderation-review": ("review_content", 10, 120, "None", (1, 5, 25), 4),
    }


def test_retries_after_1_5_and_25_s_then_none() -> None:
    assert [POLICY.retry_delay(attempts) for attempts in (1, 2, 3, 4, 9)] == [1, 5, 25, None, None]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_failed_attempt_is_retried_and_remembered(attempts: int) -> None:
    running = job(attempts=attempts)
    settlement = outcome.settle_failure(TAKEN, running, error(text="boom"), policy=POLICY, worker="w")
    assert (settlement.verb, settlement.delay) == ("retry", POLICY.retry_delays[attempts - 1])
    stored = json.loads(settlement.body)
    assert (stored["status"], stored["attempts"]) == ("queued", attempts)
    (attempt,) = stored["meta"]["couturecast"]["attempts"]
    assert (attempt["attempt"], attempt["message"], attempt["worker"]) == (attempts, "boom", "w")


def test_the_fourth_failure_buries_with_all_attempts() -> None:
    running = job()
    for attempts in (1, 2, 3):
        running.attempts = attempts
        outcome.settle_failure(TAKEN, running, error(text=f"e{attempts}"), policy=POLICY, worker="w")
    running.attempts = 4
    settlement = outcome.settle_failure(TAKEN, running, error(text="e4"), policy=POLICY, worker="w")
    letter = decode_letter(settlement.letter, settlement.letter_uid)
    assert settlement.verb == "bury"
    assert [one["message"] for one in letter.attempt_errors] == ["e1", "e2", "e3", "e4"]
    assert (letter.attempts, letter.error_message, letter.uid) == (4, "e4", settlement.letter_uid)
    assert "meta" not in letter.job_data


def test_e7_a_permanent_error_buries_at_once() -> None:
    settlement = outcome.settle_failure(
        TAKEN, job(attempts=1), error(PermanentError), policy=POLICY, worker="w"
    )
    assert settlement.verb == "bury"


@pytest.mark.parametrize(("status", "charged"), [(Status.QUEUED, 2), (Status.ACTIVE, 1)])
def test_e10_a_crash_is_charged_once(status: Status, charged: int) -> None:
    running = job(attempts=1, status=status)
    settlement = outcome.worker_died(TAKEN, running, error(), policy=POLICY, worker="w")
    assert (settlement.verb, json.loads(settlement.body)["attempts"]) == ("return", charged)


def test_the_delay_of_a_retry_is_no_age() -> None:
    running = job(attempts=1)
    settlement = outcome.settle_failure(TAKEN, running, error(), policy=POLICY, worker="w")
    ready_at = json.loads(settlement.body)["touched"] / 1000
    assert ready_at >= time.time() + settlement.delay - 1


def test_e1_what_is_not_finite_is_written_as_saq_writes_it() -> None:
    value = {"a": [None, {"b": math.nan}], "c": -math.inf}
    assert wire.dump(value) == json.dumps(value).encode()
    assert wire.dump({"a": None}) == b'{"a":null}'


def test_a_letter_of_another_version_is_kept_as_text() -> None:
    kept = decode_letter(b'{"uid": "x", "colour": 1}', "x")
    assert (kept.uid, kept.job_data) == ("x", {"unreadable": '{"uid": "x", "colour": 1}'})


def test_e9_a_returned_job_is_the_job_that_was_taken() -> None:
    assert (outcome.give_back(TAKEN).verb, outcome.give_back(TAKEN).body) == ("return", b"{}")


def test_the_type_of_an_error_is_recorded_up_to_a_bounded_length() -> None:
    odd = type("Q" * 1_000_000, (Exception,), {})()
    attempt = failed_attempt(odd, number=1, failed_at=1.0, worker="w", run_seconds=0.1)
    assert len(attempt["error_type"]) == 200


def test_a_foreign_meta_is_kept() -> None:
    running = job(attempts=4, meta={"trace": "abc", "couturecast": "not ours"})
    assert attempts_of(running) == []
    attempt = failed_attempt(error(), number=4, failed_at=1.0, worker="w", run_seconds=0.1)
    letter = make_letter(running, [attempt])
    assert decode_letter(encode_letter(letter), "other") == letter


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_e1_the_wire_has_the_values_of_json(value: Any) -> None:
    assert wire.load(json.dumps(value)) == value
    back = json.loads(wire.dump(value))
    assert back == value or not math.isfinite(_first_float(value))


class _Queue:
    name = "color-extraction"


@given(
    st.fixed_dictionaries(
        {"function": st.text(), "key": st.text(min_size=1)},
        optional={
            "kwargs": st.none() | st.dictionaries(st.text(), json_values, max_size=3),
            "queue": st.just(_Queue()),
            "timeout": st.none() | st.integers(),
            "retries": st.integers(),
            "attempts": st.integers(),
            "progress": st.floats(allow_nan=False),
            "scheduled": st.integers() | st.floats(allow_nan=False),
            "completed": st.integers(),
            "error": st.none() | st.text(),
            "result": json_values,
            "status": st.sampled_from(list(Status)),
            "meta": st.dictionaries(st.text(), json_values, max_size=2),
        },
    )
)
def test_e1_a_job_is_written_as_saq_writes_it(values: dict[str, Any]) -> None:
    saq_job = Job(**values)
    assert wire.job_dict(saq_job) == saq_job.to_dict()


def _first_float(value: Any) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((f for f in map(_first_float, value) if not math.isfinite(f)), 0.0)
    return 0.0


@given(st.floats(min_value=0, max_value=40_000))
def test_a_duration_lies_within_its_bucket(seconds: float) -> None:
    lower, upper = histogram.bounds(histogram.bucket(seconds))
    assert lower <= seconds <= upper * 1.000001


@given(st.lists(st.floats(min_value=0.002, max_value=1_000), min_size=20, max_size=200))
def test_a_percentile_is_right_to_a_quarter(values: list[float]) -> None:
    counts: dict[int, int] = {}
    for value in values:
        number = histogram.bucket(value)
        counts[number] = counts.get(number, 0) + 1
    exact = sorted(values)[math.ceil(0.95 * len(values)) - 1]
    found = histogram.percentile(counts, 0.95)
    assert found is not None
    assert exact / 1.26 <= found <= exact * 1.26


def test_no_duration_has_no_percentile() -> None:
    assert histogram.percentile({}, 0.5) is None


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [{"a": "x\0"}, {"\0": 1}, {"a": ["\ud800"]}, nested(101), "x" * 1_000_001])
def test_what_no_job_may_hold(value: Any) -> None:
    with pytest.raises(InvalidJobError):
        check_payload(json.dumps(value).encode(), value)


@pytest.mark.parametrize(
    "value", [{"a": "\\u0000 and \\ud800 as text"}, nested(100), "x" * 900_000, [[]] * 200]
)
def test_what_a_job_may_hold(value: Any) -> None:
    check_payload(json.dumps(value).encode(), value)


def test_numbers_and_bars() -> None:
    assert (shown.percent(0.071), shown.percent(None)) == ("7.1 %", "–")
    assert (shown.rate(4.44), shown.rate(15_000.2), shown.rate(None)) == ("4.4", "15,000", "–")
    assert (
        shown.byte_size(212 * 2**20),
        shown.byte_size(2**30),
        shown.byte_size(12),
        shown.byte_size(None),
    ) == (
        "212 MB",
        "1.0 GB",
        "12 B",
        "–",
    )
    assert (shown.gauge(3, 20, 10), shown.gauge(0, 5, 5), shown.gauge(5, 5, 5)) == (
        "██░░░░░░░░",
        "░░░░░",
        "█████",
    )
    assert shown.sparkline([None, 0, 4, 8], 6) == "   ▁▄█"


def test_text_of_jobs_is_shown_never_interpreted() -> None:
    assert shown.escape("a\x1b[31m\x00\n\ud800\x9b\x7f é 袍") == "a\\x1b[31m\\x00\\x0a\\ud800\\x9b\\x7f é 袍"
    assert shown.escape("".join(map(chr, (0x202A, 0x202E, 0x2066, 0x2069)))) == "\\u202a\\u202e\\u2066\\u2069"
    assert shown.escape_lines("a\tb\nc\r") == "a   b\nc\\x0d"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@box:6379/0", "redis://:***@box:6379/0"),
        ("rediss://ops:se:cr@et@box/1", "rediss://ops:***@box/1"),
        ("redis://box/0?password=secret&db=2", "redis://box/0?password=***&db=2"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock?password=***"),
        ("redis://ops@box/0", "redis://ops@box/0"),
        ("redis://box:6379/0", "redis://box:6379/0"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize("attempts", [[1], [{}], [{"attempt": "1"}], "x", [{"attempt": 1, "at": 2.0}]])
def test_an_invalid_record_of_an_attempt_is_ignored(attempts: Any) -> None:
    assert attempts_of(job(attempts=1, meta={"couturecast": {"attempts": attempts}})) == []
