"""Checks the revision of the tables, for Postgres and for SQLite."""

from __future__ import annotations

from importlib.resources import files

from app.doctor.results import Finding, ok, warning, wrong
from storage.database.migrations import HEAD


def revisions() -> list[str]:
    """Return the revisions of this program, oldest first."""
    folder = files("storage.database.migrations").joinpath("versions")
    return sorted(file.name.partition("_")[0] for file in folder.iterdir() if file.name[:1].isdigit())


def assess_revision(revision: str | None, tables: set[str]) -> Finding:
    """Judge what ``revision`` means for a start; ``tables`` are those of ours that exist."""
    if revision == HEAD:
        return ok(f"the tables are up to date ({HEAD})")
    if revision is None:
        if not tables:
            return ok("no tables yet: the next start makes them")
        return wrong(
            f"there is a table {sorted(tables)[0]} that no migration of ours made",
            "the next start fails",
            "name another database in DATABASE_URL",
        )
    if revision in revisions():
        return warning(
            f"the tables are of revision {revision}, not {HEAD}",
            "the next start brings them up to date, which may take long",
            "stop older processes, then start when it suits you",
        )
    return wrong(
        f"the tables are of revision {revision}, which this program does not have",
        "no process of this version starts",
        "install the newer version, or name another database",
    )
