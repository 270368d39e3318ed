"""Folders and the disks that they are on.  Only reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.doctor.results import Finding, ok, warning, wrong
from tui.text.format import byte_size

_LITTLE, _TOO_LITTLE = 1024**3, 100 * 1024**2  # bytes
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "afs")


def nearest(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), path)


def free_space(path: Path) -> Finding:
    """Of the disk that ``path`` is on, or would be."""
    free = shutil.disk_usage(nearest(path)).free
    text = f"{byte_size(free)} free"
    consequence, mend = "once it is full, no dead letter is recorded", "free space there"
    if free < _TOO_LITTLE:
        return wrong(text, consequence, mend)
    return warning(text, consequence, mend) if free < _LITTLE else ok(text)


def network_file_system(path: Path) -> str:
    """Its kind where ``path`` is on one, else ''; only Linux tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return ""
    real = nearest(path).resolve()
    found = (-1, "")
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        folder = Path(point.encode("latin-1", "replace").decode("unicode_escape"))  # \040 is a space
        if real == folder or folder in real.parents:
            found = max(found, (len(folder.parts), kind), key=lambda each: each[0])
    return found[1] if found[1] in _NETWORK else ""
