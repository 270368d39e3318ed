"""Moves dead letters and outcomes of replays from Redis, where they wait, to the database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.backoff import Backoff
from storage.dead_letters.records import NewDeadLetter, ReplayOutcome, ReplayResult
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import StorageError
from storage.redis.batches import REQUEST_BYTES
from storage.redis.scripts import Script, run_script
from workers.engine.keys import LETTER, LETTERS, OUTCOMES
from workers.engine.letter_encoding import decode_letter

LETTERS_SCRIPT = Script.load(__name__, "letters")

log = structlog.get_logger(__name__)

_OUTCOME = re.compile(rb"(\d{1,18}):(\d{1,18}):(completed|aborted)", re.ASCII)
_MAX_BATCH_LETTERS = 100
_BACKOFF_SECONDS = (0.5, 15.0)
"""Between tries while the database is down: the first, and the longest."""
_RETRY_REFUSED_SECONDS = 60.0
"""Until a letter that the database refused is tried again: the reason may have been fixed."""


class Recorder:
    """Every process runs one.  The same letter recorded twice is one row, so they need no lock.

    Invariant: a letter is in Redis until its row is committed.
    """

    def __init__(self, redis: Redis, letters: DeadLetterRepository) -> None:
        self._redis = redis
        self._letters = letters
        self._waiting = asyncio.Event()
        self._waiting.set()
        self._retry_at: dict[bytes, float] = {}
        """Loop time at which a letter that was refused, and stays in Redis, is tried again."""

    def notify(self) -> None:
        """Note that a letter waits, or may wait."""
        self._waiting.set()

    async def run(self) -> None:
        """Record what waits, until cancelled."""
        delays = Backoff(*_BACKOFF_SECONDS)
        while True:
            await self._wait()
            self._waiting.clear()
            try:
                while await self.record_batch():
                    delays.reset()
            except (StorageError, RedisError, OSError) as error:
                delay = delays.next()
                log.warning("dead letters cannot be recorded yet", error=str(error), retry_in=delay)
            except Exception:
                delay = delays.next()
                log.exception("dead letters wait: a defect of the recorder", retry_in=delay)
            else:
                continue
            self._waiting.set()
            await asyncio.sleep(delay)

    async def _wait(self) -> None:
        """Wait for a letter, or until a refused one is due again."""
        try:
            async with asyncio.timeout_at(min(self._retry_at.values(), default=None)):
                await self._waiting.wait()
        except TimeoutError:
            pass

    async def record_batch(self) -> int:
        """Record 100 letters, or a megabyte, and 100 outcomes, the oldest first; how many, 0 if none waits.

        A letter that the database refuses in any form stays in Redis, and delays no other.  Raises
        StorageError or RedisError.
        """
        now = asyncio.get_running_loop().time()
        self._retry_at = {uid: due for uid, due in self._retry_at.items() if due > now}
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(LETTERS, 0, len(self._retry_at) + _MAX_BATCH_LETTERS - 1)
        pipeline.zrange(OUTCOMES, 0, _MAX_BATCH_LETTERS - 1)
        uids, outcomes = await pipeline.execute()
        uids = [uid for uid in uids if uid not in self._retry_at][:_MAX_BATCH_LETTERS]
        if uids:
            await self._record_letters(uids)
        if outcomes:
            parsed = [outcome for member in outcomes if (outcome := _parse_outcome(member)) is not None]
            await self._letters.record_replay_outcomes(parsed)
            await self._redis.zrem(OUTCOMES, *outcomes)
        return len(uids) + len(outcomes)

    async def _record_letters(self, uids: list[bytes]) -> None:
        bodies = await run_script(self._redis, LETTERS_SCRIPT.call([LETTER], [REQUEST_BYTES, *uids]))
        uids = uids[: len(bodies)]
        letters = {
            uid: decode_letter(body, uid.decode("utf-8", "backslashreplace"))
            for uid, body in zip(uids, bodies, strict=True)
            if body
        }
        try:
            await self._letters.record(list(letters.values()))
        except (StorageError, OSError):
            raise
        except Exception:
            refusals = await self._record_one_by_one(letters)
            uids = [uid for uid in uids if uid not in refusals]
        if not uids:
            return
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.zrem(LETTERS, *uids)
        pipeline.execute_command("HDEL", LETTER, *uids)
        await pipeline.execute()

    async def _record_one_by_one(self, letters: Mapping[bytes, NewDeadLetter]) -> set[bytes]:
        """Record each letter by itself; return the uids of those that were refused."""
        refusals: dict[bytes, str] = {}
        for uid, letter in letters.items():
            try:
                await self._letters.record([letter])
            except (StorageError, OSError):
                raise
            except Exception as error:
                refusals[uid] = str(getattr(error, "orig", None) or repr(error))[:500]
        if refusals:
            due = asyncio.get_running_loop().time() + _RETRY_REFUSED_SECONDS
            self._retry_at |= dict.fromkeys(refusals, due)
            log.error(
                "dead letters that the database refuses stay in Redis",
                letters=[uid.decode("utf-8", "backslashreplace") for uid in refusals],
                error=next(iter(refusals.values())),
                retry_in=_RETRY_REFUSED_SECONDS,
            )
        return set(refusals)


def _parse_outcome(member: bytes) -> ReplayOutcome | None:
    """Return the letter, the item and the result of its replay; None if another program wrote the member."""
    match = _OUTCOME.fullmatch(member)
    if match is None:
        return None
    result: ReplayResult = "completed" if match[3] == b"completed" else "aborted"
    return ReplayOutcome(int(match[1]), int(match[2]), result)
