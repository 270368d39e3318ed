"""A SQLite file, read without a trace: no journal is made, none is recovered."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.doctor.checks.disk import free_space, nearest, network_file_system
from app.doctor.checks.migrations import migrations as of_revision
from app.doctor.groups import in_thread
from app.doctor.results import Finding, ok, unknown, wrong
from storage.database.tables import Base

_OLDEST = (3, 38, 0)


@dataclass(frozen=True)
class SqliteFile:
    """The file that the settings name, whether it is there or not."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether it has been made, as far as its folder lets us see."""
        return os.path.exists(self.path)

    @property
    def log(self) -> Path:
        """What has been written and is not in the file yet."""
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def index(self) -> Path:
        """Of the log; whoever opens the file to write makes it."""
        return self.path.with_name(f"{self.path.name}-shm")


@in_thread
def place(file: SqliteFile) -> Finding:
    """Can it be opened, or made?"""
    consequence, mend = "no process starts", "change its owner and mode, or name another file in DATABASE_URL"
    if file.exists and not file.path.is_file():
        return wrong(f"{file.path} is no file", consequence, "name a file in DATABASE_URL")
    folder = nearest(file.path.parent)
    if not folder.is_dir():
        return wrong(f"{folder} is no folder", consequence, mend)
    if not os.access(folder, os.W_OK | os.X_OK):
        return wrong(f"{folder} cannot be written", consequence, mend)
    if not file.exists:
        return ok(f"{file.path} is not there: the next start makes it")
    if not os.access(file.path, os.R_OK | os.W_OK):
        return wrong(f"{file.path} cannot be read and written", consequence, mend)
    return ok(str(file.path))


@in_thread
def library(file: SqliteFile) -> Finding:
    """FTS5 with trigrams, and JSON."""
    try:
        with closing(sqlite3.connect(":memory:")) as memory:
            memory.execute("CREATE VIRTUAL TABLE t USING fts5(c, tokenize='trigram')")
            memory.execute("SELECT value FROM json_each('[1]')").fetchall()
    except sqlite3.Error as error:
        lack = str(error)
    else:
        if sqlite3.sqlite_version_info >= _OLDEST:
            return ok(f"SQLite {sqlite3.sqlite_version}, with FTS5 trigrams and JSON")
        lack = "3.38 is needed"
    return wrong(
        f"SQLite {sqlite3.sqlite_version}: {lack}",
        "the tables cannot be made",
        "use a Python with a newer SQLite, or Postgres",
    )


@in_thread
def migrations(file: SqliteFile) -> Finding:
    """Which revision its tables have."""
    if not os.access(nearest(file.path.parent), os.X_OK):
        return unknown("not checked: its folder may not be entered")
    if file.exists and _is_unreadable_log(file):
        return unknown(
            "cannot be read now: there is a write-ahead log without its index", "start the program"
        )
    if not file.exists or file.path.stat().st_size == 0:
        return of_revision(None, set())
    try:
        with closing(_read_only(file)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            found = None
            if "alembic_version" in names:
                found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:  # locked, or a journal that only a writer may recover
        return unknown(f"cannot be read now: {error}")
    except sqlite3.Error as error:
        return wrong(
            f"{file.path}: {error}",
            "no process starts",
            "restore a backup, or name another file in DATABASE_URL",
        )
    return of_revision(found[0] if found else None, names & set(Base.metadata.tables))


def _is_unreadable_log(file: SqliteFile) -> bool:
    """Only a writer may read what is in it."""
    return file.log.exists() and file.log.stat().st_size > 0 and not file.index.exists()


def _read_only(file: SqliteFile) -> sqlite3.Connection:
    """A connection that leaves the folder as it is.

    Without a write-ahead log nobody has the file open, or nothing is in it: so it does not change.  With one,
    its index is read, never made.
    """
    way = "readonly_shm=1" if file.log.exists() and file.index.exists() else "immutable=1"
    return sqlite3.connect(f"file:{quote(str(file.path.absolute()))}?mode=ro&{way}", uri=True, timeout=1)


@in_thread
def disk(file: SqliteFile) -> Finding:
    """Where it lies: on a disk of this machine, with space."""
    kind = network_file_system(file.path)
    if kind:
        return wrong(
            f"{file.path} lies on a network file system ({kind})",
            "its locks do not hold there: the file may be damaged",
            "keep it on a local disk, or use Postgres",
        )
    return free_space(file.path)
