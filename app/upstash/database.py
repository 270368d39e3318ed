"""A database as Upstash describes it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, model_validator

_DOMAIN = "upstash.io"
HIDDEN = "***"
CONSOLE = "https://console.upstash.com/redis"


class Database(BaseModel):
    """The fields of a description that are needed here; passwords and tokens in it are dropped.

    Fields that matter for the safety of jobs have no default: a description without them is rejected.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_id: str
    database_name: str
    state: str = "in an unknown state"
    type: str = ""
    """``free``, ``payg`` or its other name ``paid``, or ``pro`` for a plan with a fixed price."""
    region: str = ""
    """``global``; of old databases the region itself."""
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
        """Drop fields that are ``null``, so that they count as missing."""
        if not isinstance(value, dict):
            return value
        return {name: field for name, field in value.items() if field is not None}

    @property
    def plan(self) -> str:
        """Name of the plan for the API; empty if the description has none."""
        return "payg" if self.type == "paid" else self.type

    @property
    def write_region(self) -> str:
        """The region that takes writes."""
        return self.primary_region or self.region

    @property
    def host(self) -> str:
        """Its host; empty while the database is being created."""
        return self.endpoint if "." in self.endpoint or not self.endpoint else f"{self.endpoint}.{_DOMAIN}"

    def url(self, password: str | None = None) -> str:
        """Return its URL, with ``***`` for the password if none is given; empty while it is being created."""
        if not self.host or not self.port:
            return ""
        secret = HIDDEN if password is None else quote(password, safe="")
        return f"{'rediss' if self.tls else 'redis'}://default:{secret}@{self.host}:{self.port}"
