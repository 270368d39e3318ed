"""Weather, as far as it is computed: blocks, severity, alerts, and the provider that needs no key."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest

from storage.repositories.weather import time_block
from workers.engine.policy import ALERT
from workers.handlers.base import validate_payload
from workers.handlers.registry import PAYLOAD_MODELS
from workers.handlers.weather.handler import (
    OfflineWeather,
    WeatherAlert,
    alert_job,
    offline_weather,
    severity,
)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
PLACES = [
    (lat, lon) for lat in (-85, -54.8, -20, 0, 1.35, 38.72, 69.65, 89) for lon in (-180, -68.3, 0, 103.8, 180)
]


@pytest.mark.parametrize(
    ("at", "block"),
    [
        (NOON, NOON),
        (NOON - timedelta(microseconds=1), NOON - timedelta(hours=3)),
        (NOON + timedelta(hours=2, minutes=59, seconds=59), NOON),
        (
            datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 6, 30, 21, tzinfo=UTC),
        ),
        (
            datetime(2026, 7, 1, 5, 29, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            NOON - timedelta(hours=15),
        ),
    ],
)
def test_a_block_is_three_hours_of_utc(at: datetime, block: datetime) -> None:
    assert time_block(at) == block
    assert time_block(at).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("event", "tags", "expected"),
    [
        ("Tornado Warning", [], "extreme"),
        ("Hurricane Watch", [], "extreme"),
        ("Red warning for wind", ["Wind"], "extreme"),
        ("Heat", ["Extreme temperature value"], "extreme"),
        ("Severe Thunderstorm Warning", [], "severe"),
        ("Orange warning", [], "severe"),
        ("Flood Watch", [], "severe"),
        ("Gale warning", ["Wind"], "severe"),
        ("Small Craft Advisory", [], "moderate"),
        ("Moderate fog", ["Fog"], "moderate"),
    ],
)
def test_severity_follows_the_words_of_the_weather_services(
    event: str, tags: list[str], expected: str
) -> None:
    assert severity(event, tags) == severity(event.upper(), tags) == expected


def alert(**fields: object) -> WeatherAlert:
    given = {"sender_name": "IPMA", "event": "Gale warning", "start": 1_780_000_000, "end": 1_780_010_000}
    return WeatherAlert.model_validate(given | fields)


def test_an_alert_keeps_its_identity_whatever_is_written_about_it_later() -> None:
    first = alert_job("lisboa", alert())
    later = alert_job("lisboa", alert(description="It has come.", end=1_780_020_000, tags=["Wind"]))
    assert first["alert_id"] == later["alert_id"]
    others = [
        alert_job("porto", alert()),
        alert_job("lisboa", alert(event="Storm")),
        alert_job("lisboa", alert(start=1_780_000_001)),
        alert_job("lisboa", alert(sender_name="AEMET")),
    ]
    assert len({first["alert_id"], *(alert["alert_id"] for alert in others)}) == 5


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"event": "", "sender_name": ""},
        {"event": " "},
        {"event": "x" * 900, "description": "y" * 9000},
        {"end": 0},
        {"start": 0, "end": 253_402_300_799},
        {"event": "nul \x00", "description": "\x00"},
    ],
)
def test_an_alert_of_any_kind_makes_a_job_that_alert_fanout_takes(odd: dict[str, object]) -> None:
    data = alert_job("lisboa", alert(**odd))
    validate_payload(PAYLOAD_MODELS[ALERT], data)
    assert data["starts_at"] <= data["ends_at"]
    assert "\0" not in "".join(data.values())


@pytest.mark.parametrize(("lat", "lon"), PLACES)
def test_offline_weather_is_plausible_everywhere(lat: float, lon: float) -> None:
    for month in range(1, 13):
        weather = offline_weather(lat, lon, NOON.replace(month=month))
        assert -60 < weather.current.temp < 50
        assert (len(weather.hourly), len(weather.daily)) == (48, 2)
        for hour in weather.hourly:
            assert 0 <= hour["humidity"] <= 100
            assert 0 <= hour["wind_speed"] < 40
            assert hour["weather"][0]["main"] in ("Clear", "Clouds", "Rain", "Snow")
            assert hour["weather"][0]["main"] != "Snow" or hour["temp"] < 0.1
        for day in weather.daily:
            assert day["temp"]["min"] <= day["temp"]["max"]


def test_offline_weather_is_the_same_for_the_same_place_and_hour() -> None:
    assert offline_weather(38.72, -9.14, NOON) == offline_weather(38.72, -9.14, NOON + timedelta(minutes=59))
    assert offline_weather(38.72, -9.14, NOON) != offline_weather(41.15, -8.61, NOON)
    assert offline_weather(38.72, -9.14, NOON) != offline_weather(38.72, -9.14, NOON + timedelta(hours=1))


def test_offline_weather_does_not_jump_from_hour_to_hour() -> None:
    hours = [offline_weather(38.72, -9.14, NOON + timedelta(hours=hours)) for hours in range(72)]
    temperatures = [weather.current.temp for weather in hours]
    steps = [abs(later - earlier) for earlier, later in itertools.pairwise(temperatures)]
    assert max(steps) < 5
    assert max(temperatures) - min(temperatures) > 4, "days are warmer than nights"


def test_summer_is_warmer_than_winter_on_either_half_of_the_globe() -> None:
    def mean(lat: float, month: int) -> float:
        days = [NOON.replace(month=month, day=day) for day in range(1, 29)]
        return sum(offline_weather(lat, 0, day).current.temp for day in days) / len(days)

    assert mean(50, 7) > mean(50, 1) + 5
    assert mean(-50, 1) > mean(-50, 7) + 5


def test_an_offline_gale_is_one_alert_for_its_whole_block() -> None:
    starts = [NOON + timedelta(hours=3 * number) for number in range(400)]
    with_alerts = [at for at in starts if offline_weather(38.72, -9.14, at).alerts]
    assert 0 < len(with_alerts) < 40
    at = with_alerts[0]
    (first,) = offline_weather(38.72, -9.14, at).alerts
    assert offline_weather(38.72, -9.14, at + timedelta(hours=2, minutes=59)).alerts == [first]
    assert (first.sender_name, "offline" in first.description) == ("offline", True)
    assert datetime.fromtimestamp(first.start, UTC) == at


async def test_offline_weather_is_marked_as_such() -> None:
    provider = OfflineWeather()
    assert provider.name == "offline"
    assert (await provider.fetch(38.72, -9.14)).current.temp == pytest.approx(
        offline_weather(38.72, -9.14, datetime.now(UTC)).current.temp, abs=5
    )
    await provider.close()
