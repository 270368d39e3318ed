"""The schemas of the four payloads: what breaks one is named."""

from __future__ import annotations

from typing import Any

import pytest

from couturecast_handlers import PermanentError
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES, MODERATION, WEATHER
from workers.errors import InvalidJobError
from workers.handlers.base import validate_payload
from workers.handlers.registry import PAYLOAD_MODELS

GOOD: dict[str, dict[str, Any]] = {
    WEATHER: {"location_id": "lisboa", "lat": 38.72, "lon": -9.14},
    ALERT: {
        "alert_id": "a1",
        "location_id": "lisboa",
        "event": "Gale warning",
        "severity": "severe",
        "starts_at": "2026-03-01T12:00:00Z",
        "ends_at": "2026-03-01T18:00:00+01:00",
        "description": "",
    },
    COLOR: {"item_id": "dress-17", "image": "dress.jpg"},
    MODERATION: {"content_id": "c1", "text": "Lovely."},
}


def problem(queue: str, **changes: Any) -> str:
    """Return the error of a good payload with ``changes``; a change to None removes the field."""
    data = {name: value for name, value in (GOOD[queue] | changes).items() if value is not None}
    with pytest.raises(InvalidJobError) as raised:
        validate_payload(PAYLOAD_MODELS[queue], data)
    return str(raised.value)


def test_each_queue_has_a_schema() -> None:
    assert set(PAYLOAD_MODELS) == set(DEFAULT_POLICIES)


@pytest.mark.parametrize("queue", GOOD)
def test_a_good_payload_is_taken(queue: str) -> None:
    payload = validate_payload(PAYLOAD_MODELS[queue], GOOD[queue])
    assert payload.model_dump(mode="json", exclude_none=True).keys() == GOOD[queue].keys()


@pytest.mark.parametrize(
    ("queue", "field"),
    [
        *((WEATHER, field) for field in ("location_id", "lat", "lon")),
        *((ALERT, field) for field in GOOD[ALERT] if field != "description"),
        *((COLOR, field) for field in ("item_id", "image")),
        (MODERATION, "content_id"),
    ],
)
def test_a_missing_field_is_named(queue: str, field: str) -> None:
    assert problem(queue, **{field: None}) == f"{field}: Field required"


@pytest.mark.parametrize(
    ("queue", "field", "value"),
    [
        (WEATHER, "location_id", ""),
        (WEATHER, "location_id", "x" * 201),
        (WEATHER, "location_id", 7),
        (WEATHER, "lat", 90.5),
        (WEATHER, "lat", "north"),
        (WEATHER, "lat", float("nan")),
        (WEATHER, "lat", "nan"),
        (WEATHER, "lon", float("inf")),
        (WEATHER, "lon", -180.1),
        (WEATHER, "lon", []),
        (ALERT, "severity", "mild"),
        (ALERT, "starts_at", "2026-03-01T12:00:00"),
        (ALERT, "ends_at", "tomorrow"),
        (ALERT, "ends_at", float("nan")),
        (ALERT, "description", "x" * 5001),
        (COLOR, "image", ""),
        (COLOR, "image", {"url": "x"}),
        (COLOR, "image", "x" * 1_000_001),
        (MODERATION, "content_id", False),
        (MODERATION, "text", ""),
        (MODERATION, "text", "x" * 5001),
        (MODERATION, "image", 1.5),
    ],
)
def test_a_field_that_is_wrong_is_named_and_its_value_is_not_shown(
    queue: str, field: str, value: Any
) -> None:
    message = problem(queue, **{field: value})
    assert message.startswith(f"{field}: ")
    assert "\n" not in message
    assert "xxx" not in message


@pytest.mark.parametrize("queue", GOOD)
def test_an_unknown_field_is_refused_by_its_name(queue: str) -> None:
    assert problem(queue, colour="red") == "colour: Extra inputs are not permitted"


@pytest.mark.parametrize("content", [{}, {"text": "x", "image": "y"}])
def test_moderation_takes_exactly_one_of_text_and_image(content: dict[str, str]) -> None:
    with pytest.raises(InvalidJobError, match=r"^payload: exactly one of text and image is needed$"):
        validate_payload(PAYLOAD_MODELS[MODERATION], {"content_id": "c1", **content})


def test_all_problems_are_in_one_error_of_limited_length() -> None:
    assert problem(WEATHER, lat=91, lon=181).count("; ") == 1
    many = problem(WEATHER, **{f"field_{number}": 1 for number in range(100)})
    assert many.endswith("; and 95 more")


def test_a_name_of_a_field_is_shown_safely() -> None:
    message = problem(COLOR, **{"\x1b[31m" + "x" * 500: 1})
    assert message.startswith("\\x1b[31mxxx")
    assert len(message) < 200


def test_a_payload_that_breaks_its_schema_is_not_retried() -> None:
    assert issubclass(InvalidJobError, PermanentError)
