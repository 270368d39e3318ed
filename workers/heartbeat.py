"""Says that this process lives, from a thread of its own: a blocked event loop is not a dead process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from workers.keys import BEATS
from workers.lua import BEAT

log = structlog.get_logger(__name__)

INTERVAL = 2.0
"""Seconds between beats while jobs are held."""


class Heartbeat:
    """Beats every two seconds while ``held()`` is not 0; an idle process has nothing to lose and is silent.

    ``on_gap`` is called, from the thread, when longer than ``gap`` seconds have passed since the last beat
    that was heard, again and again until one is: the process was frozen, or is cut off, and its jobs may have
    been given to others.
    """

    def __init__(
        self, redis: Redis, worker_id: str, *, held: Callable[[], int], gap: float, on_gap: Callable[[], None]
    ) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._held = held
        self._gap = gap
        self._on_gap = on_gap
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close its connection."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(INTERVAL):
            said = self._beat() if self._held() else True
            now = time.monotonic()
            if now - last > self._gap:
                self._on_gap()
            if said:
                last = now

    def _beat(self) -> bool:
        """False where it was not heard."""
        try:
            try:
                self._redis.evalsha(BEAT.sha, 1, BEATS, self._worker_id)
            except NoScriptError:
                self._redis.eval(BEAT.text, 1, BEATS, self._worker_id)
        except (RedisError, OSError) as error:
            log.warning("no heartbeat", error=repr(error))
            return False
        return True
