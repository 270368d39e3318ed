"""A handler process: ``python couturecast_handlers/__main__.py QUEUE MODULE:FUNCTION OPTIONS``.

OPTIONS is a JSON object: the descriptors ``jobs``, ``control`` and ``culprit``, the ``folders`` to import
from, and whether it runs in the ``foreground``.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import signal
import socket
import sys
import traceback

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29  # prctl(2)
_OLDEST = (3, 9)


def _set_up_process() -> None:
    """Have the system kill this process with the appliance, even while a handler holds the GIL.

    And end its waits in time: by default they are 50 us late, 1 % of a job of 5 ms.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_TIMERSLACK, 1)
    if os.getppid() != parent:
        os._exit(0)


def _leave_signals_to_the_appliance() -> None:
    """Ignore signals, since the appliance ends this process.

    Processes that a handler forks obey them at once.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def before_fork() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def after_fork_in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def after_fork_in_child() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    os.register_at_fork(
        before=before_fork,
        after_in_parent=after_fork_in_parent,
        after_in_child=after_fork_in_child,
    )


def _refuse_to_stop(*_: object, **__: object) -> None:
    raise RuntimeError(
        "breakpoint() needs a terminal: run the job with couturecast-tui run QUEUE --data JSON"
    )


def _main() -> None:
    queue, name, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    _set_up_process()
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and sys.path[0] == here:
        del sys.path[0]
    sys.path.insert(0, os.path.dirname(here))
    from couturecast_handlers import importing, process, wire
    from couturecast_handlers.async_process import AsyncProcess
    from couturecast_handlers.output import Output
    from couturecast_handlers.sync_process import SyncProcess

    # The folder of this package is full of the appliance's own.
    sys.path[:1] = options["folders"]
    sys.argv[1:] = []
    descriptors = [options[part] for part in ("jobs", "control", "culprit")]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    jobs, control = (socket.socket(fileno=descriptor) for descriptor in descriptors[:2])
    culprit = memoryview(mmap.mmap(descriptors[2], mmap.PAGESIZE)).cast("q")
    writer = wire.Writer(jobs)
    foreground = options.get("foreground", False)
    output = None if foreground else Output(writer)
    start = process.Start(queue, jobs, control, culprit, foreground, output)
    if not foreground:
        _leave_signals_to_the_appliance()
        if "PYTHONBREAKPOINT" not in os.environ:
            sys.breakpointhook = _refuse_to_stop
    try:
        function = importing.import_function(name)
    except importing.RefusedError as error:
        files = {**importing.team_files(), **importing.files_of(error.__cause__, options["folders"])}
        writer.send({"refused": error.problem, "fix": error.fix, "files": files})
        os._exit(1)
    kind = AsyncProcess if importing.is_async(function) else SyncProcess
    served = kind(start, writer, function)
    gc.freeze()  # what was imported stays: the collector need not walk over it
    writer.send({"ready": importing.describe_function(function), "files": importing.team_files()})
    served.serve()


if __name__ == "__main__":
    if sys.version_info < _OLDEST:
        sys.exit(f"Python {sys.version.split()[0]} is too old for handlers: 3.9 or newer is needed")
    try:
        _main()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)  # not by the interpreter, which would wait for the threads of the team
