"""Checks a SQLite file without changing its folder: no journal is made, none is recovered."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.doctor.checks.disk import free_space, nearest_existing, network_file_system
from app.doctor.checks.migrations import assess_revision
from app.doctor.groups import in_thread
from app.doctor.results import Finding, ok, unknown, wrong
from storage.database.tables import Base

_MIN_VERSION = (3, 38, 0)


@dataclass(frozen=True)
class SqliteFile:
    """The file that the settings name; it may not exist."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether it exists; False if its folder cannot be entered."""
        return os.path.exists(self.path)

    @property
    def log(self) -> Path:
        """The write-ahead log: changes that are not in the file yet."""
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def index(self) -> Path:
        """The index of the log, made by the first program that opens the file to write."""
        return self.path.with_name(f"{self.path.name}-shm")


@in_thread
def file(file: SqliteFile) -> Finding:
    """Check that the file can be opened, or made."""
    consequence, fix = "no process starts", "change its owner and mode, or name another file in DATABASE_URL"
    if file.exists and not file.path.is_file():
        return wrong(f"{file.path} is not a file", consequence, "name a file in DATABASE_URL")
    folder = nearest_existing(file.path.parent)
    if not folder.is_dir():
        return wrong(f"{folder} is not a folder", consequence, fix)
    if not os.access(folder, os.W_OK | os.X_OK):
        return wrong(f"{folder} cannot be written", consequence, fix)
    if not file.exists:
        return ok(f"{file.path} does not exist: the next start makes it")
    if not os.access(file.path, os.R_OK | os.W_OK):
        return wrong(f"{file.path} cannot be read and written", consequence, fix)
    return ok(str(file.path))


@in_thread
def library(file: SqliteFile) -> Finding:
    """Check for FTS5 with trigrams, and JSON."""
    try:
        with closing(sqlite3.connect(":memory:")) as memory:
            memory.execute("CREATE VIRTUAL TABLE t USING fts5(c, tokenize='trigram')")
            memory.execute("SELECT value FROM json_each('[1]')").fetchall()
    except sqlite3.Error as error:
        problem = str(error)
    else:
        if sqlite3.sqlite_version_info >= _MIN_VERSION:
            return ok(f"SQLite {sqlite3.sqlite_version}, with FTS5 trigrams and JSON")
        problem = "3.38 is needed"
    return wrong(
        f"SQLite {sqlite3.sqlite_version}: {problem}",
        "the tables cannot be made",
        "use a Python with a newer SQLite, or Postgres",
    )


@in_thread
def migrations(file: SqliteFile) -> Finding:
    """Check the revision of the tables."""
    if not os.access(nearest_existing(file.path.parent), os.X_OK):
        return unknown("not checked: no right to enter its folder")
    if file.exists and _is_unreadable_log(file):
        return unknown("cannot be read now: its write-ahead log has no index", "start the program")
    if not file.exists or file.path.stat().st_size == 0:
        return assess_revision(None, set())
    try:
        with closing(_read_only(file)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            row = None
            if "alembic_version" in names:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:  # locked, or it has a journal that only a writer may recover
        return unknown(f"cannot be read now: {error}")
    except sqlite3.Error as error:
        return wrong(
            f"{file.path}: {error}",
            "no process starts",
            "restore a backup, or name another file in DATABASE_URL",
        )
    return assess_revision(row[0] if row else None, names & set(Base.metadata.tables))


def _is_unreadable_log(file: SqliteFile) -> bool:
    """Return whether the log has changes that only a writer can read."""
    return file.log.exists() and file.log.stat().st_size > 0 and not file.index.exists()


def _read_only(file: SqliteFile) -> sqlite3.Connection:
    """Open a connection that changes nothing in the folder.

    Without a write-ahead log no program has the file open, or the log is empty: so the file does not change.
    With a log, its index is read, never made.
    """
    mode = "readonly_shm=1" if file.log.exists() and file.index.exists() else "immutable=1"
    return sqlite3.connect(f"file:{quote(str(file.path.absolute()))}?mode=ro&{mode}", uri=True, timeout=1)


@in_thread
def disk(file: SqliteFile) -> Finding:
    """Check that the file is on a disk of this machine, with free space."""
    kind = network_file_system(file.path)
    if kind:
        return wrong(
            f"{file.path} is on a network file system ({kind})",
            "locks do not work there: the file may be damaged",
            "keep it on a local disk, or use Postgres",
        )
    return free_space(file.path)
