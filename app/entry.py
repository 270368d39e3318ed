"""The program's entry.  It prepares the process before anything large is imported.

Most of a command's start is spent in imports, so a ctrl-C is likely to come there.  If standard output is
closed, the first descriptor that anything opens takes its place.
"""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    """Run ``couturecast-tui``."""
    try:
        open_standard_streams()
        from app.process.interrupts import exit_on_interrupt

        exit_on_interrupt()
        if sys.argv[1:] in (["probe", "live"], ["probe", "ready"]):
            from app.probe import main as probe

            probe(sys.argv[2])
        from app.cli.main import main as command_line

        try:
            command_line()
        except SystemExit as end:
            if threading.active_count() == 1:  # nothing to wait for, and no reason to import more
                raise
            from app.process.exit import exit_process

            exit_process(end.code)
    except KeyboardInterrupt:  # before the handler of the line above, or after the command
        os._exit(130)


def open_standard_streams() -> None:
    """Open descriptors 0 to 2 on the null device if they are closed.

    Reading standard input and writing standard output still fail, as on a closed descriptor: a command must
    not seem to have printed its output.  Output on standard error is dropped.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            new_descriptor = os.open(os.devnull, mode)
            if new_descriptor != descriptor:  # not if they are opened in their order
                os.dup2(new_descriptor, descriptor)
                os.close(new_descriptor)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # type: ignore[misc]  # noqa: SIM115
