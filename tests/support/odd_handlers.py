"""Handlers of a careless team, in Python 3.9: imported by handler processes only."""

import asyncio
import contextlib
import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
import time

FORK = multiprocessing.get_context("fork")


def _wait_for_ever():
    while True:
        time.sleep(0.05)


def block(_ctx):
    time.sleep(10_000)


def exit_process(_ctx):
    os._exit(7)


def kill_itself(_ctx):
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_terminate(_ctx):
    child = FORK.Process(target=_wait_for_ever)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


def fork_and_return(_ctx):
    child = os.fork()
    if child == 0:
        return "in the child"
    os.waitpid(child, 0)
    return "in the parent"


def leave_a_child_and_exit(_ctx):
    """The child holds all that joins its parent to the appliance."""
    if os.fork() == 0:
        _wait_for_ever()
    os._exit(7)


def threads(_ctx):
    for _ in range(50):
        threading.Thread(target=_wait_for_ever).start()
    return threading.active_count() >= 50


def keyboard_interrupt(_ctx):
    raise KeyboardInterrupt


def system_exit(_ctx):
    sys.exit(3)


def print_much(_ctx):
    for number in range(100_000):
        print(f"{number:0100}")  # noqa: T201
    return "printed"


def print_much_past_python(_ctx):
    os.write(2, b"x" * 79 + b"\n")
    os.system("yes 0123456789012345678901234567890123456789 | head -c 10000000")
    return "printed"


def close_streams(_ctx):
    os.closerange(0, 1024)


def allocate(_ctx):
    return len(bytearray(2 << 30))


def change_everything(_ctx):
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.clear()
    sys.path.clear()
    return os.getcwd()


def stop_loop(_ctx):
    with contextlib.suppress(RuntimeError):  # a plain function has no loop
        asyncio.get_running_loop().stop()
    return "stopped"


def cancel_all(_ctx):
    with contextlib.suppress(RuntimeError):
        for task in asyncio.all_tasks():
            task.cancel()
    return "cancelled"


def leave_alarm(_ctx):
    signal.setitimer(signal.ITIMER_REAL, 0.2)


class UnprintableError(Exception):
    """Ends the program if it is asked what it is."""

    def __str__(self):
        sys.exit(4)

    @property
    def __class__(self):
        raise KeyboardInterrupt


def raise_unprintable(_ctx):
    raise UnprintableError


def generator_exit(_ctx):
    raise GeneratorExit


def return_too_much(_ctx):
    return "x" * (70 << 20)


def return_too_deep(_ctx):
    sys.setrecursionlimit(100_000)
    nested = None
    for _ in range(5_000):
        nested = [nested]
    return nested


def update_much(ctx):
    ctx["job"].update(meta={"text": "x" * (4 << 20)})


def stop_here(_ctx):
    breakpoint()


def ignore_everything(_ctx):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


def crash(_ctx):
    faulthandler.enable(sys.__stderr__)
    os.kill(os.getpid(), signal.SIGSEGV)


def print_in_pieces_and_crash(_ctx):
    os.write(2, b"the first piece")
    time.sleep(0.02)  # it is read by itself, and the next reading is a while later
    os.write(2, b" and the second")
    os._exit(3)


def print_a_long_line(_ctx):
    os.write(1, b"long" * 10_000 + b"\n")


def replace_json(_ctx):
    json.loads = json.dumps = None
    return "replaced"


def replace_control(_ctx):
    """What joins it to the appliance, the last of its sockets, becomes something else."""
    sockets = []
    for file in sorted(map(int, os.listdir("/proc/self/fd"))):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{file}").startswith("socket:"):
                sockets.append(file)
    os.dup2(os.open(os.devnull, os.O_RDWR), sockets[-1])
    return "replaced"


def dispatch(ctx, what, seconds=0.0, value=None):
    """One job, as a plain function."""
    if what == "good":
        time.sleep(seconds)
        return value
    return globals()[what](ctx)


async def dispatch_async(ctx, what, seconds=0.0, value=None):
    """The same, as a coroutine."""
    if what == "good":
        await asyncio.sleep(seconds)
        return value
    await asyncio.sleep(0.01)
    return globals()[what](ctx)


async def in_a_task(ctx, what, seconds=0.0, value=None):
    """Do the odd thing in a task that the handler makes."""
    if what == "good":
        await asyncio.sleep(seconds)
        return value

    async def odd():
        await asyncio.sleep(0.01)
        return globals()[what](ctx)

    return await asyncio.gather(odd())


async def in_a_thread(ctx, what, seconds=0.0, value=None):
    """Do the odd thing in a thread, whose job cannot be determined."""
    if what == "good":
        await asyncio.sleep(seconds)
        return value
    return await asyncio.to_thread(globals()[what], ctx)


async def never_obeys(_ctx, what, seconds=0.0, value=None):
    """A coroutine that ignores its cancellation."""
    if what == "good":
        await asyncio.sleep(seconds)
        return value
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
