"""The files by which `probe` finds the processes of a data directory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from app.address import Address
from app.running import announce, running_processes

ANNOUNCE = """
import os, pathlib, sys
from app.address import Address
from app.running import announce
with announce(pathlib.Path(sys.argv[1]), Address("::1", 8020)):
    child = os.fork() if len(sys.argv) > 2 else 1
    if child:
        print(child, flush=True)
    sys.stdin.read()
"""


def start_announcing(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that announces itself, and wait until it has."""
    process = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCE, str(data_dir), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_process_is_found_with_its_address_while_it_runs(tmp_path: Path) -> None:
    with start_announcing(tmp_path) as process:
        (found,) = running_processes(tmp_path)
        assert (found.pid, found.address) == (process.pid, Address("::1", 8020))
        (file,) = (tmp_path / "processes").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert running_processes(tmp_path) == []
    assert list((tmp_path / "processes").iterdir()) == []


def test_the_file_of_a_killed_process_counts_for_nothing_and_the_next_one_removes_it(tmp_path: Path) -> None:
    with start_announcing(tmp_path) as process:
        process.kill()
    assert len(list((tmp_path / "processes").iterdir())) == 1
    assert running_processes(tmp_path) == []
    with announce(tmp_path, None):
        assert len(list((tmp_path / "processes").iterdir())) == 1


def test_a_child_that_outlives_its_process_does_not_keep_it_running(tmp_path: Path) -> None:
    with start_announcing(tmp_path, "with a child") as process:
        (found,) = running_processes(tmp_path)
        assert found.pid == process.pid
        process.kill()
        process.wait()
        assert running_processes(tmp_path) == []


def test_two_processes_of_a_data_directory_are_both_found(tmp_path: Path) -> None:
    with start_announcing(tmp_path) as first, start_announcing(tmp_path) as second:
        assert {found.pid for found in running_processes(tmp_path)} == {first.pid, second.pid}


def test_a_file_that_cannot_be_read_counts_for_nothing(tmp_path: Path) -> None:
    with start_announcing(tmp_path):
        (file,) = (tmp_path / "processes").iterdir()
        for content in (b"", b"{", b"[1]", b'[1, "nowhere"]', b"\xff"):
            descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
            os.write(descriptor, content)
            os.close(descriptor)
            assert running_processes(tmp_path) == []
