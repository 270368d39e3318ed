"""Helps to check folders and the disks that they are on.  Only reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.doctor.results import Finding, ok, warning, wrong
from tui.text.format import byte_size

_WARNING_BYTES, _WRONG_BYTES = 1024**3, 100 * 1024**2
_NETWORK_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse.sshfs",
    "afs",
)


def nearest_existing(path: Path) -> Path:
    """Return ``path``, or the nearest folder above it that exists."""
    return next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), path)


def free_space(path: Path) -> Finding:
    """Check the free space of the disk that ``path`` is on, or would be."""
    free = shutil.disk_usage(nearest_existing(path)).free
    text = f"{byte_size(free)} free"
    consequence, fix = "once it is full, no dead letter is recorded", "free space there"
    if free < _WRONG_BYTES:
        return wrong(text, consequence, fix)
    return warning(text, consequence, fix) if free < _WARNING_BYTES else ok(text)


def network_file_system(path: Path) -> str:
    """Return the kind of network file system that ``path`` is on, else ''; only Linux reports it."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return ""
    real = nearest_existing(path).resolve()
    depth, file_system = -1, ""
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        folder = Path(point.encode("latin-1", "replace").decode("unicode_escape"))  # \040 is a space
        if (real == folder or folder in real.parents) and len(folder.parts) > depth:
            depth, file_system = len(folder.parts), kind
    return file_system if file_system in _NETWORK_FILE_SYSTEMS else ""
