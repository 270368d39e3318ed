"""Lists the databases that should exist; docs/upstash.md has the reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from app.errors import UsageError

DEFAULT_REGION = "eu-central-1"
_REGION_FORMS = {
    "aws": re.compile(r"[a-z]{2}-[a-z]+-[0-9]", re.ASCII),
    "gcp": re.compile(r"[a-z]+-[a-z]+[0-9]", re.ASCII),
}
"""Form of the regions of each platform."""


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """A database as it should be."""

    name: str
    environment: str
    variable: Literal["REDIS_URL", "CACHE_REDIS_URL"]
    """The setting for its URL: REDIS_URL has the queues, and the cache unless that has a Redis of its own."""
    plan: Literal["free", "payg"]
    eviction: bool
    """Never on for queues: Upstash may evict any key."""
    budget: int | None = None
    """Dollars a month, for pay-as-you-go."""
    region: str = DEFAULT_REGION
    """Its only region."""


DATABASES = (
    DatabaseSpec("couturecast-dev", "dev", "REDIS_URL", "free", eviction=False),
    DatabaseSpec("couturecast-staging", "staging", "REDIS_URL", "free", eviction=False),
    DatabaseSpec("couturecast-prod", "prod", "REDIS_URL", "payg", eviction=False, budget=20),
    DatabaseSpec("couturecast-prod-cache", "prod", "CACHE_REDIS_URL", "payg", eviction=True, budget=10),
)
_WITH_BUDGET_OPTION = DATABASES[2]
"""The database whose budget an operator may change."""
ENVIRONMENTS = tuple(dict.fromkeys(spec.environment for spec in DATABASES))


def select_specs(
    only: str | None = None, *, region: str = DEFAULT_REGION, budget: int | None = None
) -> tuple[DatabaseSpec, ...]:
    """Return the databases of the environments in ``only``, all without it, in ``region``.

    ``budget`` replaces that of the queues of production.  Raises UsageError.
    """
    platform_of(region)
    names = ENVIRONMENTS if only is None else tuple(part.strip() for part in only.split(","))
    for name in names:
        if name not in ENVIRONMENTS:
            raise UsageError(f"{name!r} is not an environment", fix=f"use {_environments()}")
    if budget is not None and _WITH_BUDGET_OPTION.environment not in names:
        raise UsageError(
            f"--budget is for {_WITH_BUDGET_OPTION.name} only", fix="remove it, or add prod to --only"
        )
    selected = [replace(spec, region=region) for spec in DATABASES if spec.environment in names]
    if budget is None:
        return tuple(selected)
    name = _WITH_BUDGET_OPTION.name
    return tuple(replace(spec, budget=budget) if spec.name == name else spec for spec in selected)


def platform_of(region: str) -> str:
    """Return ``aws`` or ``gcp``.  Raises UsageError if the region is of neither."""
    for platform, form in _REGION_FORMS.items():
        if form.fullmatch(region):
            return platform
    raise UsageError(
        f"{region!r} is not a region",
        field="--region",
        fix="use one of AWS, as eu-central-1, or of GCP, as europe-west1",
    )


def _environments() -> str:
    return f"{', '.join(ENVIRONMENTS[:-1])} or {ENVIRONMENTS[-1]}"
