"""One database as Upstash describes it."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

_DOMAIN = "upstash.io"
HIDDEN = "***"


class Database(BaseModel):
    """What of a description is needed here; passwords and tokens in it are not kept."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_id: str
    database_name: str
    state: str = "active"
    type: str = ""
    """Its plan: ``free``, ``payg``, or a word for one with a fixed price."""
    region: str = ""
    """``global``, but the region itself of old databases."""
    primary_region: str = ""
    eviction: bool = False
    tls: bool = False
    budget: int | None = None
    """Cents a month."""
    endpoint: str = ""
    """A host, or its first label only."""
    port: int = 6379

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
        if not self.host:
            return ""
        secret = HIDDEN if password is None else quote(password, safe="")
        return f"{'rediss' if self.tls else 'redis'}://default:{secret}@{self.host}:{self.port}"
