"""The files of an embedded server that does not run."""

from __future__ import annotations

import os
from pathlib import Path

from app.doctor.checks.settings import Configuration
from app.doctor.groups import in_thread
from app.doctor.results import Finding, ok, unknown, warning, wrong
from app.servers import append_only
from app.servers.embedded_valkey import EmbeddedServer
from tui.text.format import byte_size

_MAX_READ_BYTES = 64 * 1024**2
"""Of a file that is read to its end: it is read within the time of a check."""


@in_thread
def append_only_file(of: Configuration) -> Finding:
    """Would the next start load it as it is?"""
    directory = EmbeddedServer(of.settings.data_dir).directory
    file = append_only.last_file(directory)
    if file is None or not file.exists():
        return _without_file(directory, file)
    if not os.access(file, os.R_OK):
        return unknown("not checked: it may not be read")
    length = file.stat().st_size
    if length > _MAX_READ_BYTES:
        if append_only.ends_badly(file):
            return _damaged_end(file, "")
        return ok(f"{byte_size(length)}, which end as they should; so much is not read here")
    damage = append_only.find_damage(file)
    if damage is None:
        return ok(byte_size(length))
    if damage.in_the_middle:
        finding, _, mend = damage.in_words().partition(": ")
        return wrong(finding, "no command starts", mend)
    return _damaged_end(file, f"the last {damage.size - damage.good:,} of {damage.size:,} bytes of ")


def _without_file(directory: Path, file: Path | None) -> Finding:
    folder = directory / append_only.FOLDER
    if not folder.is_dir() or not any(folder.iterdir()):
        return ok("none yet: the next start makes one")
    lack = f"{file} is missing" if file is not None else f"no manifest in {folder} names one"
    return wrong(lack, "no command starts", f"restore {folder} from a backup, or move it away")


def _damaged_end(file: Path, part: str) -> Finding:
    return warning(
        f"{part}{file} are no whole commands" if part else f"{file} does not end with a whole command",
        "the next start cuts them off, and keeps the whole file beside it",
        "nothing: a power cut may leave this; keep a copy if you wish",
    )
