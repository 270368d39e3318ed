"""What the operator feels: from a key to its paint, the first frame, and what the dashboard costs at rest."""

from __future__ import annotations

import asyncio
import os
import random
import re
import select
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median, quantiles

from storage.database.engine import Database
from tests.benchmarks import letters, program
from tests.benchmarks.alone import held_back, resume
from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.measurement import Bench, Figure, Measurement
from tests.benchmarks.peer import OURS, Peer
from tests.benchmarks.peers.protocol import QUEUE
from tests.support.servers import PostgresServer
from workers.engine.keys import QueueKeys

_SIZE = (160, 48)
_PAINT_SECONDS = 30.0
"""After which a key is held to be dead."""
_SETTLE_SECONDS = 3.0
"""Seconds that a started program gets before it counts as idle."""
_MIN_LETTERS = 1_000
"""Enough for a second page."""
_ROUNDS = 15
_LOAD_FACTOR = 40
"""The keys are pressed while so many times the jobs of a throughput are run."""
_PAUSE_SECONDS = (0.05, 0.25)
"""Between two keys; by chance, so that they come at any moment between two snapshots."""
_KEYS = (
    ("2", "Dead letters ·"),
    ("n", "page 2"),
    ("b", "page 1"),
    ("3", "Schedules"),
    ("4", "Workers ·"),
    ("5", "reading the figures|entries( on this page)? ·"),
    ("6", "not read yet|what happened"),
    ("?", "esc close"),
    ("?", "what happened"),
    ("1", "in flight"),
)
"""Each key, and a pattern of what its first paint has, and the screen before has not."""
_LETTER = r"job-\d+"
"""A pattern of one row in the list of the dead letters."""
_GROUPS = r"Groups · (the \d+ largest|\d+ groups?) as of"
"""A pattern of the title of their groups, with which the view begins."""
_PAGE_KEYS = "2nb"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>])")

Databases = Callable[[int], AbstractContextManager[str]]


class Screen:
    """A terminal in which the program runs: presses keys, and watches what is painted."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._painted = ""

    def press(self, key: str, pattern: str) -> float:
        """Press a key; milliseconds until something that ``pattern`` matches has been painted."""
        self.rest(0.0)
        began = time.perf_counter()
        os.write(self._terminal, key.encode())
        self.wait(pattern)
        return (time.perf_counter() - began) * 1000

    def has_painted(self, pattern: str) -> bool:
        """Whether something that ``pattern`` matches was painted since the last key."""
        return re.search(pattern, _SEQUENCE.sub("", self._painted)) is not None

    def wait(self, pattern: str) -> None:
        """Wait for a paint.  Raises BenchmarkError."""
        deadline = time.perf_counter() + _PAINT_SECONDS
        while not self.has_painted(pattern):
            if not self._read(deadline):
                raise BenchmarkError(f"{pattern!r} is not painted within {_PAINT_SECONDS:g} s")

    def rest(self, seconds: float) -> None:
        """Look away for some time; what is painted meanwhile is forgotten."""
        deadline = time.perf_counter() + seconds
        while self._read(deadline):
            pass
        self._painted = ""

    def _read(self, deadline: float) -> bool:
        """Read what is painted next; False after ``deadline``."""
        left = max(0.0, deadline - time.perf_counter())
        if not select.select([self._terminal], [], [], left)[0]:
            return False
        self._painted += os.read(self._terminal, 65_536).decode("utf-8", "replace")
        return True


@contextmanager
def _screen(settings: dict[str, str]) -> Iterator[Screen]:
    """The program in a terminal, with the overview painted."""
    with (
        tempfile.TemporaryDirectory() as folder,
        program.terminal(Path(folder), settings, _SIZE) as (_, terminal),
    ):
        screen = Screen(terminal)
        screen.wait("in flight")
        screen.rest(_SETTLE_SECONDS)
        yield screen


def _press_all(screen: Screen, rounds: int, *, until: Callable[[], bool] = lambda: False) -> list[float]:
    """Press each key ``rounds`` times, or until something happens; milliseconds of each."""
    chance = random.Random(1)
    times: list[float] = []
    for _ in range(rounds):
        for key, pattern in _KEYS:
            if until():
                return times
            times.append(screen.press(key, pattern))
            if key in _PAGE_KEYS:  # the next one needs the page
                screen.wait(_LETTER)
            screen.rest(chance.uniform(*_PAUSE_SECONDS))
    return times


def _open_letters(screen: Screen) -> float:
    """Open the groups of the letters, then the letters, and leave; milliseconds of the slower one."""
    times = screen.press("2", _GROUPS), screen.press("g", f"(?s)Dead letters ·.*{_LETTER}")
    screen.press(*_KEYS[-1])
    return max(times)


def _percentiles(times: list[float]) -> tuple[float, float]:
    if len(times) < len(_KEYS):
        raise BenchmarkError(f"only {len(times)} keys were pressed under load: measure with more jobs")
    return median(times), quantiles(times, n=20)[-1]


def _keys_at_rest(bench: Bench, _: Peer) -> tuple[float, ...]:
    with _sqlite(_MIN_LETTERS) as url, _screen({"REDIS_URL": bench.url, "DATABASE_URL": url}) as screen:
        _open_letters(screen)
        return _percentiles(_press_all(screen, _ROUNDS))


def _keys_under_load(bench: Bench, _: Peer) -> tuple[float, ...]:
    """While no-op jobs run at full speed, at concurrency 20."""
    settings = {
        "REDIS_URL": bench.url,
        "COUTURECAST_HANDLERS": f"{QUEUE}=tests.benchmarks.handlers:no_op",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
        "COUTURECAST_COLOR_EXTRACTION_CONCURRENCY": "20",
    }
    left = QueueKeys.of(QUEUE).incomplete
    with (
        _sqlite(_MIN_LETTERS) as url,
        held_back(bench, bench.jobs * _LOAD_FACTOR),
        _screen(settings | {"DATABASE_URL": url}) as screen,
    ):
        resume(bench)
        _open_letters(screen)
        return _percentiles(_press_all(screen, _ROUNDS, until=lambda: not bench.client.zcard(left)))


def _keys_over_letters(databases: Databases) -> Callable[[Bench, Peer], tuple[float, ...]]:
    """The first page of the letters, and then all keys."""

    def take(bench: Bench, _: Peer) -> tuple[float, ...]:
        with (
            databases(bench.letters) as url,
            _screen({"REDIS_URL": bench.url, "DATABASE_URL": url}) as screen,
        ):
            first = _open_letters(screen)
            return first, *_percentiles(_press_all(screen, _ROUNDS))

    return take


def _cpu(bench: Bench, _: Peer) -> tuple[float, ...]:
    """Per cent of a core of the idle program, headless and with the dashboard."""
    shares = []
    for start in (program.headless, program.dashboard):
        with tempfile.TemporaryDirectory() as folder, start(Path(folder), {"REDIS_URL": bench.url}) as pid:
            time.sleep(_SETTLE_SECONDS)
            before, began = program.cpu_seconds(pid), time.perf_counter()
            time.sleep(bench.idle_seconds)
            shares.append(100 * (program.cpu_seconds(pid) - before) / (time.perf_counter() - began))
    return tuple(shares)


def _first_frame(_bench: Bench, _peer: Peer) -> tuple[float, ...]:
    """Seconds from the command to the first frame and to the first figures, with the embedded servers."""
    with tempfile.TemporaryDirectory() as folder:
        with program.headless(Path(folder), {}):
            pass  # the second start has its files already, as an operator's has
        began = time.perf_counter()
        with program.terminal(Path(folder), {}, _SIZE) as (_, terminal):
            screen = Screen(terminal)
            screen.wait("CoutureCast")
            frame = time.perf_counter() - began
            screen.wait("1 worker")
            return frame, time.perf_counter() - began


@contextmanager
def _sqlite(number: int) -> Iterator[str]:
    """URL of a SQLite file with ``number`` letters."""
    with tempfile.TemporaryDirectory() as folder:
        yield _filled(f"sqlite:///{Path(folder) / 'letters.db'}", number)


@contextmanager
def _postgres(number: int) -> Iterator[str]:
    """URL of a Postgres with ``number`` letters."""
    server = PostgresServer()
    server.start()
    try:
        yield _filled(server.create("letters"), number)
    finally:
        server.remove()


def _filled(url: str, number: int) -> str:
    async def fill() -> None:
        database = Database(url)
        try:
            await letters.fill(database, number)
        finally:
            await database.close()

    asyncio.run(fill())
    return url


def _key_figures(title: str) -> tuple[Figure, ...]:
    return (
        Figure(f"from a key to its paint, {title}, p50, ms"),
        Figure(f"… p95, ms, {title}", "100"),
    )


_US = (OURS,)

MEASUREMENTS = (
    Measurement(
        "first-frame",
        (
            Figure("first frame after the command, embedded servers, s", "1", 2),
            Figure("… with the first figures, s", "", 2),
        ),
        _first_frame,
        _US,
    ),
    Measurement("keys-at-rest", _key_figures("at rest"), _keys_at_rest, _US),
    Measurement("keys-no-op", _key_figures("no-op jobs at full speed"), _keys_under_load, _US, long=True),
    *(
        Measurement(
            f"keys-{name}",
            (Figure(f"first page of the dead letters, {title}, ms", "300"), *_key_figures(title)),
            _keys_over_letters(databases),
            _US,
            once=True,
            long=True,
        )
        for name, title, databases in (
            ("sqlite", "many letters in SQLite", _sqlite),
            ("postgres", "many letters in Postgres", _postgres),
        )
    ),
    Measurement(
        "cpu",
        (
            Figure("processor when idle, headless, % of a core", "", 1),
            Figure("… with the dashboard, % of a core", "5", 1),
        ),
        _cpu,
        _US,
        once=True,
    ),
)
"""In the order of the report."""
