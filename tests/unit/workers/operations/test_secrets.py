"""Secrets are masked where they are shown, and an edit never writes a mask into a job."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_letters import letter
from workers.errors import InvalidJobError
from workers.operations.job_stacks import JobStack
from workers.operations.job_views import JobAttempt, JobDetail
from workers.operations.secrets import DEFAULT_MASK, MASK, SecretMask

PAYLOAD = {
    "user": "anna",
    "password": "hunter2",
    "headers": {"X-Api-Key": "k-123", "Accept": "json", "Set-Cookie": ["a=1", "b=2"]},
    "targets": [{"name": "a", "access_token": "t-1"}, {"name": "b", "access_token": "t-2"}],
    "url": "https://ops:s3cret@shop.example/x?b=1",
    "max": 3,
    "has_password": True,
    "passphrase": None,
    "note": "three *** stars",
}
SHOWN = {
    "user": "anna",
    "password": MASK,
    "headers": {"X-Api-Key": MASK, "Accept": "json", "Set-Cookie": MASK},
    "targets": [{"name": "a", "access_token": MASK}, {"name": "b", "access_token": MASK}],
    "url": f"https://ops:{MASK}@shop.example/x?b=1",
    "max": 3,
    "has_password": True,
    "passphrase": None,
    "note": "three *** stars",
}


def test_fields_are_masked_by_their_names_at_any_depth() -> None:
    assert DEFAULT_MASK.value(PAYLOAD) == SHOWN
    assert SecretMask(()).value({"password": "x"}) == {"password": "x"}
    assert SecretMask(["pin"]).value({"PIN": "1", "password": "x"}) == {"PIN": MASK, "password": "x"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("login failed: password=hunter2, user=anna", f"login failed: password={MASK}, user=anna"),
        ("{'api_key': 'k 1', 'b': 2}", f"{{'api_key': {MASK}, 'b': 2}}"),
        ('{"auth_token": "a\\"b", "b": 2}', f'{{"auth_token": {MASK}, "b": 2}}'),
        ("Authorization: Bearer eyJhbGciOi.x-y", f"Authorization: {MASK}"),
        ("sent Bearer eyJhbGciOi.x-y to it", f"sent Bearer {MASK} to it"),
        ("postgresql://ops:pw@db/shop is away", f"postgresql://ops:{MASK}@db/shop is away"),
        ("X-API-KEY : k-1\nnext line", f"X-API-KEY : {MASK}\nnext line"),
        ("the token is unknown", "the token is unknown"),
        ("password: Extra inputs are not permitted", "password: Extra inputs are not permitted"),
        ("api_key: string should be short; b: x", "api_key: string should be short; b: x"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_secrets_in_errors_are_masked(text: str, shown: str) -> None:
    assert DEFAULT_MASK.text(text) == shown


@pytest.mark.slow
@pytest.mark.timeout(10)
def test_a_megabyte_without_secrets_is_checked_at_once() -> None:
    for text in (
        "token" * 200_000,
        "data:image/png;base64," + "QUJD" * 300_000 + " token",
        "a:" * 500_000 + "@://",
    ):
        assert MASK not in DEFAULT_MASK.value({"image": text})["image"]


def test_a_letter_is_masked_in_its_payload_its_errors_and_its_log() -> None:
    attempt = {"attempt": 1, "message": "token=abc1", "traceback": "E: token=abc1", "log": ["token=abc1"]}
    masked = DEFAULT_MASK.letter(
        letter(1, error_message="token=abc1", traceback="token=abc1", attempt_errors=[attempt],
               job_data={"kwargs": {"token": "abc1"}})
    )  # fmt: skip
    assert "abc1" not in repr(masked)
    assert repr(masked).count(MASK) == 6


def test_a_job_is_masked_in_all_that_is_shown_of_it() -> None:
    attempt = JobAttempt(1, None, "w", "E", "token=abc1", "E: token=abc1", 0.1, None, ["token=abc1"])
    job = JobDetail(
        *("color-extraction", "dress-17", "failed", "1"),
        error="token=abc1",
        payload={"token": "abc1"},
        result={"deep": [{"token": "abc1"}]},
        meta={"api_key": "abc1"},
        traceback="token=abc1",
        attempts=[attempt],
        unreadable="token=abc1",
    )
    masked = DEFAULT_MASK.job(job)
    assert "abc1" not in repr(masked)
    assert repr(masked).count(MASK) == 9
    assert DEFAULT_MASK.stack(JobStack([], ["token=abc1"])).log == [f"token={MASK}"]


def test_what_is_nested_too_deep_is_not_shown() -> None:
    value: Any = "abc1"
    for _ in range(300):
        value = [value]
    assert "abc1" not in repr(DEFAULT_MASK.value(value))


def edited(**fields: Any) -> dict[str, Any]:
    return {**SHOWN, **fields}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (edited(), PAYLOAD),
        (edited(user="bruno", max=3.0), {**PAYLOAD, "user": "bruno", "max": 3.0}),
        (edited(password="new"), {**PAYLOAD, "password": "new"}),
        (edited(targets=SHOWN["targets"][1:]), {**PAYLOAD, "targets": PAYLOAD["targets"][1:]}),  # type: ignore[index]
        (edited(note="**** stars"), {**PAYLOAD, "note": "**** stars"}),
        (edited(has_password=1), {**PAYLOAD, "has_password": 1}),
    ],
)
def test_an_edit_keeps_the_secrets_of_the_original(edit: Any, expected: Any) -> None:
    restored = DEFAULT_MASK.restore(edit, PAYLOAD)
    assert repr(restored) == repr(expected)


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (edited(new_token=MASK), "new_token"),
        (edited(user=MASK), "user"),
        (edited(passphrase=MASK), "passphrase"),
        (edited(other=f"https://ops:{MASK}@shop.example"), "other"),
        (edited(targets=[{"name": "c", "access_token": MASK}]), "targets[0]"),
    ],
)
def test_a_mask_without_a_secret_is_refused(edit: Any, field: str) -> None:
    with pytest.raises(InvalidJobError, match="write its value") as refused:
        DEFAULT_MASK.restore(edit, PAYLOAD)
    assert refused.value.field == field
