"""Fetches the weather of a location, stores it, and hands severe-weather alerts on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from couturecast_handlers import PermanentError
from storage.cache.tags import InvalidateTags, location_tag
from storage.repositories.weather import BLOCK_HOURS, Weather, WeatherRepository, time_block
from workers.engine.policy import ALERT, WEATHER
from workers.handlers.base import Enqueue, Handler, JobContext, Payload
from workers.handlers.lazy_http import LazyHttpClient

_TIMEOUT_SECONDS = 10.0  # for each of connecting, writing and reading
_ANSWER_SECONDS = 25.0  # for all of it, within the job's 30 s
_MAX_BYTES = 5_000_000  # of an answer; a usual one has 30,000
_GALE_METRES_PER_SECOND = 17.2  # from Beaufort 8 on
_MAX_UNIX_SECONDS = 253_402_300_799  # the end of the year 9999
_EXTREME = ("extreme", "red warning", "tornado", "hurricane")
_SEVERE = ("severe", "orange warning", "storm", "flood", "blizzard", "warning")


class WeatherUnavailableError(Exception):
    """The weather service did not answer as it should; another attempt may succeed."""


class WeatherPayload(Payload):
    """A location; degrees."""

    location_id: str = Field(min_length=1, max_length=200)
    lat: float = Field(ge=-90, le=90, description="Degrees north")
    lon: float = Field(ge=-180, le=180, description="Degrees east")


class WeatherResult(BaseModel):
    """The stored weather."""

    location_id: str
    time_block: datetime
    provider: str
    temperature: float
    """Celsius."""
    alerts: int


class Current(BaseModel):
    """The present weather; all other fields of the answer are kept unchanged."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    temp: float


class WeatherAlert(BaseModel):
    """One alert as One Call 3.0 has it; times are Unix seconds."""

    sender_name: str = ""
    event: str = ""
    start: int = Field(ge=0, le=_MAX_UNIX_SECONDS)
    end: int = Field(ge=0, le=_MAX_UNIX_SECONDS)
    description: str = ""
    tags: list[str] = []


class OneCall(BaseModel):
    """The used part of an answer of One Call 3.0."""

    current: Current
    hourly: list[dict[str, Any]] = []
    daily: list[dict[str, Any]] = []
    alerts: list[WeatherAlert] = []


class WeatherProvider(Protocol):
    """A source of weather."""

    name: str

    async def fetch(self, lat: float, lon: float) -> OneCall:
        """Return the weather of a place, in degrees.  Raises WeatherUnavailableError, PermanentError."""

    async def close(self) -> None:
        """Free the connections."""


class OpenWeather:
    """OpenWeather's One Call 3.0, metric (https://openweathermap.org/api/one-call-3)."""

    name = "openweather"

    def __init__(self, api_key: str, base_url: str = "https://api.openweathermap.org") -> None:
        self._key = api_key
        self._url = f"{base_url.rstrip('/')}/data/3.0/onecall"
        # The operator named it.
        self._http = LazyHttpClient(allow_private_addresses=True, timeout=_TIMEOUT_SECONDS)

    async def fetch(self, lat: float, lon: float) -> OneCall:
        """Return the answer, parsed.  No error of this method holds the key."""
        query = {"lat": f"{lat:.4f}", "lon": f"{lon:.4f}", "units": "metric", "exclude": "minutely"}
        http = await self._http.open()
        import httpx

        from workers.handlers import http_client as net

        try:
            status, body = await net.request_limited(
                http,
                "GET",
                self._url,
                params={**query, "appid": self._key},
                max_bytes=_MAX_BYTES,
                seconds=_ANSWER_SECONDS,
            )
        except (httpx.HTTPError, TimeoutError) as error:
            raise WeatherUnavailableError(
                f"the weather service does not answer: {type(error).__name__}"
            ) from None
        return _read(status, body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _read(status: int, body: bytes) -> OneCall:
    if status == 401:
        raise PermanentError("the weather service refuses the key: check OPENWEATHER_API_KEY (401)")
    if status == 404:
        raise PermanentError("the weather service has no such place (404)")
    from workers.handlers.http_client import is_retryable

    if is_retryable(status):
        raise WeatherUnavailableError(f"{status} from the weather service")
    if status != 200:
        raise PermanentError(f"{status} from the weather service")
    try:
        return OneCall.model_validate_json(body)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"])) or "it is no JSON"
        raise WeatherUnavailableError(f"the weather service's answer cannot be read: {field[:80]}") from None


class OfflineWeather:
    """Plausible weather without a key; the same for the same place and hour."""

    name = "offline"

    async def fetch(self, lat: float, lon: float) -> OneCall:
        """Return the answer that One Call 3.0 might give."""
        return offline_weather(lat, lon, datetime.now(UTC))

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class WeatherHandler(Handler[WeatherPayload, WeatherResult]):
    """``enqueue`` hands alerts on to ``alert-fanout``; ``invalidate`` removes entries from the cache."""

    queue: ClassVar[str] = WEATHER
    payload_model = WeatherPayload

    def __init__(
        self,
        store: WeatherRepository,
        provider: WeatherProvider,
        enqueue: Enqueue,
        invalidate: InvalidateTags,
    ) -> None:
        self._store = store
        self._provider = provider
        self._enqueue = enqueue
        self._invalidate = invalidate

    async def run(self, payload: WeatherPayload, context: JobContext) -> WeatherResult:
        """Fetch, store, clear the cache, hand on.  A second run changes nothing but the time of fetching."""
        answer = await self._provider.fetch(payload.lat, payload.lon)
        now = datetime.now(UTC)
        weather = Weather(
            location_id=payload.location_id,
            time_block=time_block(now),
            provider=self._provider.name,
            current=answer.current.model_dump(),
            forecast={"hourly": answer.hourly, "daily": answer.daily},
            fetched_at=now,
        )
        try:
            await self._store.upsert(weather)
        finally:  # also if the commit was done and its reply was lost
            await self._invalidate(location_tag(payload.location_id))
        for alert in answer.alerts:
            data = alert_job(payload.location_id, alert)
            await self._enqueue(ALERT, data, key=f"alert-{data['alert_id']}")
        return WeatherResult(
            location_id=payload.location_id,
            time_block=weather.time_block,
            provider=self._provider.name,
            temperature=answer.current.temp,
            alerts=len(answer.alerts),
        )

    async def close(self) -> None:
        """Close the provider's connections."""
        await self._provider.close()


def alert_job(location_id: str, alert: WeatherAlert) -> dict[str, Any]:
    """Return the arguments of ``fan_out_alert``.

    ``alert_id`` is the alert's identity, whenever it is fetched.
    """
    event = alert.event.strip() or "Weather alert"
    identity = "\0".join((location_id, event, str(alert.start), alert.sender_name))
    data = {
        "alert_id": hashlib.sha256(identity.encode()).hexdigest()[:24],
        "location_id": location_id,
        "event": event[:200],
        "severity": severity(event, alert.tags),
        "starts_at": datetime.fromtimestamp(alert.start, UTC).isoformat(),
        "ends_at": datetime.fromtimestamp(max(alert.start, alert.end), UTC).isoformat(),
        "description": alert.description[:5000],
    }
    return {name: value.replace("\0", "") for name, value in data.items()}  # a job may not hold NUL


def severity(event: str, tags: Sequence[str]) -> str:
    """Return ``extreme``, ``severe`` or ``moderate``, by the words that the weather services use."""
    text = " ".join((event, *tags)).lower()
    if any(word in text for word in _EXTREME):
        return "extreme"
    return "severe" if any(word in text for word in _SEVERE) else "moderate"


def offline_weather(lat: float, lon: float, when: datetime) -> OneCall:
    """Compute weather from place and time: season, latitude, hour, and what passes over in hours."""
    start = when.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hourly = [_hour(lat, lon, start + timedelta(hours=hours)) for hours in range(48)]
    return OneCall(
        current=Current(**hourly[0]),
        hourly=hourly,
        daily=[_day(hourly[day : day + 24]) for day in (0, 24)],
        alerts=_gale(lat, lon, start),
    )


def _hour(lat: float, lon: float, when: datetime) -> dict[str, Any]:
    season = math.cos(2 * math.pi * (when.timetuple().tm_yday - 200) / 365) * (1 if lat >= 0 else -1)
    local_hour = (when.hour + lon / 15) % 24
    day = math.cos(2 * math.pi * (local_hour - 15) / 24)
    roughness = _roughness(lat, lon, when)
    temperature = 27 - abs(lat) * 0.45 + season * abs(lat) * 0.25 + day * 4 + (0.5 - roughness) * 6
    if roughness < 0.5:
        sky = "Clear"
    elif roughness < 0.75:
        sky = "Clouds"
    else:
        sky = "Snow" if temperature < 0 else "Rain"
    return {
        "dt": int(when.timestamp()),
        "temp": round(temperature, 1),
        "feels_like": round(temperature - roughness * 3, 1),
        "humidity": round(40 + roughness * 50),
        "wind_speed": round(_wind(roughness), 1),
        "weather": [{"main": sky, "description": sky.lower()}],
    }


def _day(hours: list[dict[str, Any]]) -> dict[str, Any]:
    temperatures = [hour["temp"] for hour in hours]
    return {"dt": hours[0]["dt"], "temp": {"min": min(temperatures), "max": max(temperatures)}}


def _wind(roughness: float) -> float:
    """Return metres a second."""
    return 1 + roughness * roughness * 18


def _roughness(lat: float, lon: float, when: datetime) -> float:
    """Return 0 (fair) to 1 (foul), which passes smoothly from one block's value to the next one's."""
    start = time_block(when)
    passed = (when - start) / timedelta(hours=BLOCK_HOURS)
    current, following = (
        _chance(lat, lon, start),
        _chance(lat, lon, start + timedelta(hours=BLOCK_HOURS)),
    )
    return current + (following - current) * (1 - math.cos(math.pi * passed)) / 2


def _chance(lat: float, lon: float, block: datetime) -> float:
    """Return 0 to 1, the same for the same place and block."""
    seed = f"{lat:.2f} {lon:.2f} {block:%Y-%m-%d %H}".encode()
    return int.from_bytes(hashlib.sha256(seed).digest()[:4]) / 2**32


def _gale(lat: float, lon: float, when: datetime) -> list[WeatherAlert]:
    """Return an alert while a block is that rough; the same one for the whole block."""
    start = time_block(when)
    wind = _wind(_chance(lat, lon, start))
    if wind < _GALE_METRES_PER_SECOND:
        return []
    return [
        WeatherAlert(
            sender_name="offline",
            event="Gale warning",
            start=int(start.timestamp()),
            end=int((start + timedelta(hours=BLOCK_HOURS)).timestamp()),
            description=f"Winds of {wind:.0f} m/s (computed offline).",
            tags=["Wind"],
        )
    ]
