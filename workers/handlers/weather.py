"""Fetches the weather of a location, stores it, and hands severe-weather alerts on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol

import httpx
from pydantic import BaseModel, Field

from storage.weather import Weather, WeatherStore
from workers.errors import PermanentError
from workers.handlers.base import Enqueue, Handler, JobContext, Payload
from workers.policy import ALERT, WEATHER

_BLOCK_HOURS = 3
_TIMEOUT = 10.0  # s, for each of connecting, writing and reading
_EXTREME = ("extreme", "red warning", "tornado", "hurricane")
_SEVERE = ("severe", "orange warning", "storm", "flood", "blizzard", "warning")


class WeatherUnavailableError(Exception):
    """The weather service did not answer as it should; another attempt may succeed."""


class WeatherPayload(Payload):
    """A location; degrees."""

    location_id: str = Field(min_length=1, max_length=200)
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)


class WeatherResult(BaseModel):
    """What was stored."""

    location_id: str
    time_block: datetime
    provider: str
    temperature: float | None
    """Celsius."""
    alerts: int


class WeatherProvider(Protocol):
    """Where weather comes from."""

    name: str

    async def fetch(self, lat: float, lon: float) -> dict[str, Any]:
        """An answer in the shape of One Call 3.0.  Raises WeatherUnavailableError, PermanentError."""

    async def close(self) -> None:
        """Free the connections."""


class OpenWeather:
    """OpenWeather's One Call 3.0, metric (https://openweathermap.org/api/one-call-3)."""

    name = "openweather"

    def __init__(self, api_key: str, base_url: str = "https://api.openweathermap.org") -> None:
        self._key = api_key
        self._http = httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT, trust_env=False)

    async def fetch(self, lat: float, lon: float) -> dict[str, Any]:
        """The answer, parsed.  No error of this method holds the key."""
        query = {"lat": f"{lat:.4f}", "lon": f"{lon:.4f}", "appid": self._key, "units": "metric"}
        try:
            response = await self._http.get("/data/3.0/onecall", params={**query, "exclude": "minutely"})
        except httpx.HTTPError as error:
            raise WeatherUnavailableError(
                f"the weather service does not answer: {type(error).__name__}"
            ) from None
        return self._read(response)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status == 401:
            raise PermanentError("the weather service refuses the key: check OPENWEATHER_API_KEY (401)")
        if status == 404:
            raise PermanentError("the weather service knows no such place (404)")
        if status == 429 or status >= 500:
            raise WeatherUnavailableError(f"{status} from the weather service")
        if status != 200:
            raise PermanentError(f"{status} from the weather service")
        try:
            answer = response.json()
            float(answer["current"]["temp"])
        except (ValueError, TypeError, KeyError):
            raise WeatherUnavailableError("the weather service's answer cannot be read") from None
        if not isinstance(answer, dict):
            raise WeatherUnavailableError("the weather service's answer cannot be read")
        return answer


class OfflineWeather:
    """Plausible weather without a key: by season, latitude and hour, the same for the same place and hour."""

    name = "offline"

    async def fetch(self, lat: float, lon: float) -> dict[str, Any]:
        """The answer that One Call 3.0 might give."""
        return offline_weather(lat, lon, datetime.now(UTC))

    async def close(self) -> None:
        """Nothing is open."""


class WeatherHandler(Handler[WeatherPayload, WeatherResult]):
    """``enqueue`` hands alerts on to ``alert-fanout``."""

    queue: ClassVar[str] = WEATHER
    payload_model = WeatherPayload

    def __init__(self, store: WeatherStore, provider: WeatherProvider, enqueue: Enqueue) -> None:
        self._store = store
        self._provider = provider
        self._enqueue = enqueue

    async def run(self, payload: WeatherPayload, context: JobContext) -> WeatherResult:
        """Fetch, store, hand on.  A second run changes nothing but the time of fetching."""
        answer = await self._provider.fetch(payload.lat, payload.lon)
        now = datetime.now(UTC)
        weather = Weather(
            location_id=payload.location_id,
            time_block=time_block(now),
            provider=self._provider.name,
            current=answer["current"],
            forecast={name: answer.get(name, []) for name in ("hourly", "daily")},
            fetched_at=now,
        )
        await self._store.upsert(weather)
        alerts = [alert_job(payload.location_id, alert) for alert in answer.get("alerts") or ()]
        for alert in alerts:
            await self._enqueue(ALERT, alert, key=f"alert-{alert['alert_id']}")
        return WeatherResult(
            location_id=payload.location_id,
            time_block=weather.time_block,
            provider=self._provider.name,
            temperature=answer["current"]["temp"],
            alerts=len(alerts),
        )

    async def close(self) -> None:
        """Close the provider's connections."""
        await self._provider.close()


def time_block(at: datetime) -> datetime:
    """The start of the three-hour block, UTC, that holds ``at``."""
    at = at.astimezone(UTC)
    return at.replace(hour=at.hour - at.hour % _BLOCK_HOURS, minute=0, second=0, microsecond=0)


def alert_job(location_id: str, alert: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``fan_out_alert`` for one alert of the answer; ``alert_id`` is its identity."""
    event, start = str(alert.get("event") or "Weather alert"), int(alert.get("start") or 0)
    end = max(start, int(alert.get("end") or start))
    identity = "\0".join((location_id, event, str(start), str(alert.get("sender_name") or "")))
    return {
        "alert_id": hashlib.sha256(identity.encode()).hexdigest()[:24],
        "location_id": location_id,
        "event": event[:200],
        "severity": severity(event, alert.get("tags") or ()),
        "starts_at": datetime.fromtimestamp(start, UTC).isoformat(),
        "ends_at": datetime.fromtimestamp(end, UTC).isoformat(),
        "description": str(alert.get("description") or "")[:5000],
    }


def severity(event: str, tags: Any) -> str:
    """``extreme``, ``severe`` or ``moderate``, by the words that the services use."""
    text = " ".join((event, *map(str, tags))).lower()
    if any(word in text for word in _EXTREME):
        return "extreme"
    return "severe" if any(word in text for word in _SEVERE) else "moderate"


def offline_weather(lat: float, lon: float, at: datetime) -> dict[str, Any]:
    """Weather in the shape of One Call 3.0, computed from place and time."""
    start = at.replace(minute=0, second=0, microsecond=0)
    hourly = [_hour(lat, lon, start + timedelta(hours=hours)) for hours in range(48)]
    current = hourly[0]
    answer: dict[str, Any] = {"lat": lat, "lon": lon, "current": current, "hourly": hourly, "daily": []}
    for day in range(0, 48, 24):
        temperatures = [hour["temp"] for hour in hourly[day : day + 24]]
        answer["daily"].append(
            {"dt": hourly[day]["dt"], "temp": {"min": min(temperatures), "max": max(temperatures)}}
        )
    if current["wind_speed"] > 17:
        answer["alerts"] = [_gale(start, current["wind_speed"])]
    return answer


def _hour(lat: float, lon: float, at: datetime) -> dict[str, Any]:
    season = math.cos(2 * math.pi * (at.timetuple().tm_yday - 200) / 365) * (1 if lat >= 0 else -1)
    local_hour = (at.hour + lon / 15) % 24
    day = math.cos(2 * math.pi * (local_hour - 15) / 24)
    chance = _chance(lat, lon, at)
    temperature = 27 - abs(lat) * 0.45 + season * abs(lat) * 0.25 + day * 4 + (chance - 0.5) * 4
    sky = "Clear" if chance < 0.5 else "Clouds" if chance < 0.8 else "Snow" if temperature < 0 else "Rain"
    return {
        "dt": int(at.timestamp()),
        "temp": round(temperature, 1),
        "feels_like": round(temperature - chance * 3, 1),
        "humidity": round(40 + chance * 50),
        "wind_speed": round(1 + chance * chance * 18, 1),
        "weather": [{"main": sky, "description": sky.lower()}],
    }


def _chance(lat: float, lon: float, at: datetime) -> float:
    """0 to 1, the same for the same place and hour."""
    seed = f"{lat:.2f} {lon:.2f} {at:%Y-%m-%d %H}".encode()
    return int.from_bytes(hashlib.sha256(seed).digest()[:4]) / 2**32


def _gale(start: datetime, wind: float) -> dict[str, Any]:
    return {
        "sender_name": "offline",
        "event": "Gale warning",
        "start": int(start.timestamp()),
        "end": int((start + timedelta(hours=6)).timestamp()),
        "description": f"Winds of {wind:.0f} m/s (computed offline).",
        "tags": ["Wind"],
    }
