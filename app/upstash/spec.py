"""Which databases there should be.  This table is all of it; docs/upstash.md says why."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from app.errors import UsageError

DEFAULT_REGION = "eu-central-1"
_PLATFORMS = {
    "aws": re.compile(r"[a-z]{2}-[a-z]+-[0-9]", re.ASCII),
    "gcp": re.compile(r"[a-z]+-[a-z]+[0-9]", re.ASCII),
}
"""Whose region it is, by its form."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One database as it should be."""

    name: str
    environment: str
    variable: Literal["REDIS_URL", "CACHE_REDIS_URL"]
    """The setting that names it: REDIS_URL holds the queues, and the cache where that has none of its own."""
    plan: Literal["free", "payg"]
    eviction: bool
    """Never on where queues are: it may take any key."""
    budget: int | None = None
    """Dollars a month, of pay-as-you-go."""
    region: str = DEFAULT_REGION
    """Where it is written; it has no other."""


DATABASES = (
    Wanted("couturecast-dev", "dev", "REDIS_URL", "free", eviction=False),
    Wanted("couturecast-staging", "staging", "REDIS_URL", "free", eviction=False),
    Wanted("couturecast-prod", "prod", "REDIS_URL", "payg", eviction=False, budget=20),
    Wanted("couturecast-prod-cache", "prod", "CACHE_REDIS_URL", "payg", eviction=True, budget=10),
)
_BUDGETED = DATABASES[2]
"""Whose budget an operator may change."""
ENVIRONMENTS = tuple(dict.fromkeys(each.environment for each in DATABASES))


def wanted(
    only: str | None = None, *, region: str = DEFAULT_REGION, budget: int | None = None
) -> tuple[Wanted, ...]:
    """The databases of the environments in ``only``, with another budget for the queues of production.

    Raises UsageError.
    """
    platform_of(region)
    names = ENVIRONMENTS if only is None else tuple(part.strip() for part in only.split(","))
    for name in names:
        if name not in ENVIRONMENTS:
            raise UsageError(f"{name!r} is no environment: use {_listed()}")
    if budget is not None and _BUDGETED.environment not in names:
        raise UsageError(f"--budget is that of {_BUDGETED.name}: drop it, or have prod in --only")
    chosen = [replace(each, region=region) for each in DATABASES if each.environment in names]
    return tuple(
        replace(each, budget=budget) if budget is not None and each.name == _BUDGETED.name else each
        for each in chosen
    )


def platform_of(region: str) -> str:
    """``aws`` or ``gcp``.  Raises UsageError where a region is neither's."""
    for platform, form in _PLATFORMS.items():
        if form.fullmatch(region):
            return platform
    raise UsageError(
        f"--region: {region!r} is none: use one of AWS as eu-central-1, or of GCP as europe-west1"
    )


def _listed() -> str:
    return f"{', '.join(ENVIRONMENTS[:-1])} or {ENVIRONMENTS[-1]}"
