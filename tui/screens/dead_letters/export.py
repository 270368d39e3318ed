"""Writes a document into a file that its owner alone can read, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Form = Literal["jsonl", "markdown"]

_FORMS: dict[str, Form] = {".jsonl": "jsonl", ".md": "markdown"}
_BUFFER = 256 * 1024
"""Characters that are written at once."""


def suggested_name() -> str:
    """``dead-letters-2026-03-01.md``."""
    return f"dead-letters-{datetime.now(UTC):%Y-%m-%d}.md"


def target(name: str) -> tuple[Path, Form]:
    """The file and its form that a name means.  Raises ValueError."""
    try:
        path = Path(name).expanduser().absolute()
    except RuntimeError:
        raise ValueError("there is no such user") from None
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise ValueError("end the name in .md or in .jsonl")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder")
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    return path, form


async def exported(pieces: AsyncIterator[str], path: Path, *, overwrite: bool) -> int:
    """Write the pieces; how many bytes.  The file, mode 0600, is there when it is complete.

    Raises FileExistsError where it is there already and is not to be overwritten, and OSError.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)  # its mode is 0600
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            waiting: list[str] = []
            length = 0
            async for piece in pieces:
                waiting.append(piece)
                length += len(piece)
                if length >= _BUFFER:
                    await asyncio.to_thread(file.write, "".join(waiting))
                    waiting, length = [], 0
            await asyncio.to_thread(file.write, "".join(waiting))
        return await asyncio.to_thread(_put, part, path, overwrite)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)


def _put(part: Path, path: Path, overwrite: bool) -> int:
    if not overwrite:
        path.touch(mode=0o600, exist_ok=False)
    part.replace(path)
    return path.stat().st_size
