"""Writes a document to a file that only its owner can read; the file appears when it is complete."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from storage.files import atomic_private_file
from workers.operations.operations import ExportFormat

_FORMS: dict[str, ExportFormat] = {".jsonl": "jsonl", ".csv": "csv", ".md": "markdown"}
_BUFFER_CHARS = 256 * 1024


def suggested_name() -> str:
    """Return ``dead-letters-2026-03-01.md``."""
    return f"dead-letters-{datetime.now(UTC):%Y-%m-%d}.md"


def parse_target(name: str) -> tuple[Path, ExportFormat]:
    """Parse a file name into its path and its form.  Raises ValueError."""
    try:
        path = Path(name).expanduser().absolute()
    except RuntimeError:
        raise ValueError("this user does not exist") from None
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise ValueError("end the name in .csv, in .md or in .jsonl")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is not a folder")
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    return path, form


async def write_file(pieces: AsyncIterator[str], path: Path, *, overwrite: bool) -> int:
    """Write the pieces to a file of mode 0600; return its size in bytes.

    Raises FileExistsError if it exists and must not be overwritten, and OSError.
    """
    with atomic_private_file(path) as file:
        buffer: list[str] = []
        chars = 0
        async for piece in pieces:
            buffer.append(piece)
            chars += len(piece)
            if chars >= _BUFFER_CHARS:
                await asyncio.to_thread(file.write, "".join(buffer))
                buffer, chars = [], 0
        return await asyncio.to_thread(_finish, file, "".join(buffer), path, overwrite)


def _finish(file: TextIO, text: str, path: Path, overwrite: bool) -> int:
    """Write the rest, and claim the name if no other file may be replaced; the size in bytes."""
    file.write(text)
    file.flush()
    if not overwrite:
        path.touch(mode=0o600, exist_ok=False)
    return os.fstat(file.fileno()).st_size
