"""Writes a document to a file that only its owner can read; the file appears when it is complete."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from workers.operations.operations import ExportFormat

_FORMS: dict[str, ExportFormat] = {".jsonl": "jsonl", ".csv": "csv", ".md": "markdown"}
_BUFFER_CHARS = 256 * 1024
_MAX_PREFIX_CHARS = 100


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
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:_MAX_PREFIX_CHARS]}.", dir=path.parent)  # mode 0600
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            buffer: list[str] = []
            chars = 0
            async for piece in pieces:
                buffer.append(piece)
                chars += len(piece)
                if chars >= _BUFFER_CHARS:
                    await asyncio.to_thread(file.write, "".join(buffer))
                    buffer, chars = [], 0
            await asyncio.to_thread(file.write, "".join(buffer))
        return await asyncio.to_thread(_rename, part, path, overwrite)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)


def _rename(part: Path, path: Path, overwrite: bool) -> int:
    if not overwrite:
        path.touch(mode=0o600, exist_ok=False)
    part.replace(path)
    return path.stat().st_size
