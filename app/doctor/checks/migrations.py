"""What the checks of Postgres and SQLite share: the revision of the tables."""

from __future__ import annotations

from importlib.resources import files

from app.doctor.results import Finding, ok, warning, wrong
from storage.database.migrations import HEAD


def revisions() -> list[str]:
    """The revisions that this program knows, oldest first."""
    folder = files("storage.database.migrations").joinpath("versions")
    return sorted(each.name.partition("_")[0] for each in folder.iterdir() if each.name[:1].isdigit())


def migrations(revision: str | None, tables: set[str]) -> Finding:
    """What ``revision`` means to a start; ``tables`` are those of ours that are there."""
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
            "the next start brings them up to date, and may take its time",
            "start it when it suits you, older processes stopped",
        )
    return wrong(
        f"the tables are of revision {revision}, which this program does not know",
        "no process of this version starts",
        "install the newer version, or name another database",
    )
