"""One database as Upstash describes it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, model_validator

_DOMAIN = "upstash.io"
HIDDEN = "***"
CONSOLE = "https://console.upstash.com/redis"


class Database(BaseModel):
    """What of a description is needed here; passwords and tokens in it are not kept.

    What endangers jobs has no default: a description that does not tell it is refused.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_id: str
    database_name: str
    state: str = "of no state that is told"
    type: str = ""
    """``free``, ``payg`` or its other name ``paid``, or ``pro`` for a plan with a fixed price."""
    region: str = ""
    """``global``, but the region itself of old databases."""
    primary_region: str = ""
    read_regions: tuple[str, ...] = ()
    eviction: bool
    tls: bool
    budget: int | None = None
    """Cents a month."""
    endpoint: str = ""
    """A host, or its first label only."""
    port: int = 0

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        """``null`` tells no more than a field that is not there."""
        if not isinstance(value, dict):
            return value
        return {name: each for name, each in value.items() if each is not None}

    @property
    def plan(self) -> str:
        """By the name that the API takes; empty where none is told."""
        return "payg" if self.type == "paid" else self.type

    @property
    def place(self) -> str:
        """The region that it is written in."""
        return self.primary_region or self.region

    @property
    def host(self) -> str:
        """Where it answers; empty while it is being made."""
        return self.endpoint if "." in self.endpoint or not self.endpoint else f"{self.endpoint}.{_DOMAIN}"

    def url(self, password: str | None = None) -> str:
        """Its URL, with ``***`` where no password is given; empty while it is being made."""
        if not self.host or not self.port:
            return ""
        secret = HIDDEN if password is None else quote(password, safe="")
        return f"{'rediss' if self.tls else 'redis'}://default:{secret}@{self.host}:{self.port}"
