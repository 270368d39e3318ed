"""Files that commands write: whole or not at all, and readable by their owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from app.errors import AppError, UsageError
from storage.files import atomic_private_file


@contextmanager
def private_file(file: Path, *, force: bool, field: str = "--output") -> Iterator[TextIO]:
    """Write ``file`` with mode 0600, whole or not at all; an existing one is replaced only with ``force``.
    ``field`` names the file in errors.

    Raises UsageError, AppError.
    """
    if force and file.exists() and not file.is_file():
        raise UsageError(f"{file} is not a file that can be replaced", field=field)
    try:
        if not force:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with atomic_private_file(file.resolve()) as stream:
                yield stream
        except BaseException:
            if not force:
                file.unlink()
            raise
    except FileExistsError:
        raise UsageError(
            f"{file} exists already", field=field, fix="name another file, or give --force"
        ) from None
    except OSError as error:
        raise AppError(f"{file}: {error.strerror or error}", field=field) from None
