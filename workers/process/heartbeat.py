"""Sends the heartbeats of this process from a thread of its own, and watches the event loop from there.

If a handler blocks the loop for a while, the process still counts as alive.  If the loop is blocked for
longer than the jobs in flight may take, the process declares itself dead and ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from storage.redis.scripts import Argument, Script, ScriptCall
from workers.engine import wire
from workers.engine.keys import BEATS, WORKERS
from workers.engine.policy import TIMINGS, Timings
from workers.engine.queue import DECLARE_DEAD_SCRIPT
from workers.process.watchdog import Verdict, Watchdog

log = structlog.get_logger(__name__)

BEAT_SCRIPT = Script.load(__name__, "beat")
BLOCKED_SCRIPT = Script.load(__name__, "blocked")


class Heartbeat:
    """Beats every two seconds while ``count_jobs()`` is not 0; an idle process sends nothing.

    ``on_silence`` is called from the thread when too much time has passed since the last confirmed beat, and
    again until one is confirmed.  Then the process was frozen or is cut off, and others may have its jobs.
    ``measure`` is called at each check of the loop; the figures that it returns go with each beat.

    While ``watchdog`` finds the event loop blocked, Redis has the place.  If it stays blocked for too
    long, the process declares itself dead, so that others recover its jobs at once.  Then ``give_up`` is
    called with the reason, to end the process.

    A process with queues on several Redises has a heartbeat for each, so a silent server does not delay the
    others.  The one with the ``watchdog`` has ``others`` publish what it finds on their servers.
    """

    def __init__(
        self,
        redis: Redis,
        worker_id: str,
        *,
        count_jobs: Callable[[], int],
        on_silence: Callable[[], None],
        measure: Callable[[], Mapping[str, object]] = dict,
        timings: Timings = TIMINGS,
        watchdog: Watchdog | None = None,
        give_up: Callable[[str], None] | None = None,
        others: Sequence[Heartbeat] = (),
    ) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._count_jobs = count_jobs
        self._on_silence = on_silence
        self._measure = measure
        self._figures: Mapping[str, object] = {}
        self._timings = timings
        self._watchdog = watchdog
        self._give_up = give_up
        self._blocked: float | None = None
        """Monotonic time since which the loop is blocked."""
        self._published = False
        """The cluster was sent that it is."""
        self._others = others
        self._unsent: ScriptCall | None = None
        """The note that the heartbeat with the watchdog has this one publish."""
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
        timings = self._timings
        last = began = time.monotonic()
        due, busy = last + timings.heartbeat_seconds, 0.0
        while not self._stop.wait(timings.loop_check_seconds):
            self._figures = self._measure()
            now = time.monotonic()
            self._watch(now - began, busy)
            self._publish_unsent()
            if now >= due - timings.loop_check_seconds / 2:
                confirmed = self._beat() if self._count_jobs() else True
                due = (end := time.monotonic()) + timings.heartbeat_seconds
                if end - last > timings.max_silence_seconds:
                    self._on_silence()
                if confirmed:
                    last = end
            began = time.monotonic()
            busy = began - now

    def _beat(self) -> bool:
        """Send a heartbeat; return False if Redis did not confirm it."""
        figures = wire.dump(self._figures)
        return self._send(BEAT_SCRIPT.call([BEATS, WORKERS], [self._worker_id, figures]))

    def _send(self, call: ScriptCall) -> bool:
        """Run a script; False when Redis did not confirm it."""
        try:
            try:
                self._redis.execute_command(*call.command())
            except NoScriptError:
                self._redis.execute_command(*call.command(text=True))
        except (RedisError, OSError) as error:
            log.warning("no heartbeat", error=repr(error))
            return False
        return True

    def _watch(self, waited: float, busy: float) -> None:
        if self._watchdog is None:
            return
        match self._watchdog.check(waited, busy):
            case Verdict.MOVES if self._watchdog.blocked_seconds == 0:
                self._on_moving()
            case Verdict.BLOCKED:
                self._on_blocked(self._watchdog)
            case Verdict.GIVE_UP:
                self._on_blocked(self._watchdog)
                if self._give_up is not None:
                    self._end(self._watchdog, self._give_up)

    def _on_moving(self) -> None:
        if self._blocked is not None:
            log.warning("the event loop moves again", stood=round(time.monotonic() - self._blocked, 1))
            self._blocked = None
        if self._published:
            self._published = not self._note("", 0.0)

    def _on_blocked(self, watchdog: Watchdog) -> None:
        place = watchdog.blocked_at()
        if self._blocked is None:
            self._blocked = time.monotonic() - watchdog.blocked_seconds
            job = {"queue": place.queue, "job": place.job} if place.job else {}
            seconds = round(watchdog.blocked_seconds, 1)
            log.error("the event loop is blocked", where=place.where, stood=seconds, **job)
        self._published = True  # also when no reply came: Redis may have done it
        self._note(place.note(), watchdog.blocked_seconds)

    def _note(self, note: Argument, blocked_seconds: float) -> bool:
        call = BLOCKED_SCRIPT.call([WORKERS], [self._worker_id, note, round(blocked_seconds * 1000)])
        for other in self._others:
            other.publish_soon(call)
        return self._send(call)

    def publish_soon(self, call: ScriptCall) -> None:
        """Run a script at the next check, again until Redis confirms it; a later one replaces it."""
        self._unsent = call

    def _publish_unsent(self) -> None:
        call = self._unsent
        if call is not None and self._send(call) and self._unsent is call:
            self._unsent = None

    def _end(self, watchdog: Watchdog, give_up: Callable[[str], None]) -> None:
        place = watchdog.blocked_at()
        call = DECLARE_DEAD_SCRIPT.call([WORKERS, BEATS], [self._worker_id, 0])
        for heartbeat in (self, *self._others):
            heartbeat._send(call)
        give_up(f"the event loop has been blocked for {watchdog.blocked_seconds:.0f} s by {place.where}")
