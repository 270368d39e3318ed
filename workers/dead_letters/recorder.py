"""Moves dead letters, and how replays ended, from Redis, where they wait, into the database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.dead_letters.repository import DeadLetterRepository, NewDeadLetter, ReplayOutcome, ReplayResult
from storage.errors import StorageError
from storage.redis.batches import REQUEST_BYTES
from storage.redis.scripts import Script, run_script
from workers.engine.keys import LETTER, LETTERS, OUTCOMES
from workers.engine.letter_encoding import decode_letter

LETTERS_SCRIPT = Script.load(__name__, "letters")

log = structlog.get_logger(__name__)

_ENDED = re.compile(rb"(\d{1,18}):(\d{1,18}):(completed|aborted)", re.ASCII)
_BATCH = 100
_BACKOFF = (0.5, 15.0)
"""Seconds between tries while the database is away: the first, and the longest."""
_REFUSED_AGAIN = 60.0
"""Seconds until a letter that the database refused is tried again: its reason may have been mended."""


class Recorder:
    """Every process runs one.  The same letter recorded twice is one row, so they need no lock.

    Invariant: a letter is in Redis until its row is committed.
    """

    def __init__(self, redis: Redis, letters: DeadLetterRepository) -> None:
        self._redis = redis
        self._letters = letters
        self._waiting = asyncio.Event()
        self._waiting.set()
        self._refused: dict[bytes, float] = {}
        """Letters that stay in Redis, and the loop time at which each is tried again."""

    def wake(self) -> None:
        """There is, or may be, a letter that waits."""
        self._waiting.set()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = _BACKOFF[0]
        while True:
            await self._wait()
            self._waiting.clear()
            try:
                while await self.record_batch():
                    backoff = _BACKOFF[0]
            except (StorageError, RedisError, OSError) as error:
                log.warning("dead letters wait for the database", error=str(error), retry_in=backoff)
            except Exception:
                log.exception("dead letters wait: a defect of the recorder", retry_in=backoff)
            else:
                continue
            self._waiting.set()
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _BACKOFF[1])

    async def _wait(self) -> None:
        """For a letter, or until one that was refused is due again."""
        try:
            async with asyncio.timeout_at(min(self._refused.values(), default=None)):
                await self._waiting.wait()
        except TimeoutError:
            pass

    async def record_batch(self) -> int:
        """Record 100 letters, or a megabyte, and 100 ends of replays, the oldest first; 0: there are none.

        A letter that the database refuses in any form stays in Redis, and holds up no other.  Raises
        StorageError or RedisError.
        """
        now = asyncio.get_running_loop().time()
        self._refused = {uid: due for uid, due in self._refused.items() if due > now}
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(LETTERS, 0, len(self._refused) + _BATCH - 1)
        pipeline.zrange(OUTCOMES, 0, _BATCH - 1)
        uids, outcomes = await pipeline.execute()
        uids = [uid for uid in uids if uid not in self._refused][:_BATCH]
        if uids:
            await self._record_letters(uids)
        if outcomes:
            await self._letters.ended([ended for each in outcomes if (ended := _ending(each)) is not None])
            await self._redis.zrem(OUTCOMES, *outcomes)
        return len(uids) + len(outcomes)

    async def _record_letters(self, uids: list[bytes]) -> None:
        bodies = await run_script(self._redis, LETTERS_SCRIPT.call([LETTER], [REQUEST_BYTES, *uids]))
        uids = uids[: len(bodies)]
        found = {
            uid: decode_letter(body, uid.decode("utf-8", "backslashreplace"))
            for uid, body in zip(uids, bodies, strict=True)
            if body
        }
        try:
            await self._letters.record(list(found.values()))
        except (StorageError, OSError):
            raise
        except Exception:
            refused = await self._record_each(found)
            uids = [uid for uid in uids if uid not in refused]
        if not uids:
            return
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.zrem(LETTERS, *uids)
        pipeline.execute_command("HDEL", LETTER, *uids)
        await pipeline.execute()

    async def _record_each(self, found: Mapping[bytes, NewDeadLetter]) -> set[bytes]:
        """One by one; those that were refused."""
        refused: dict[bytes, str] = {}
        for uid, letter in found.items():
            try:
                await self._letters.record([letter])
            except (StorageError, OSError):
                raise
            except Exception as error:
                refused[uid] = str(getattr(error, "orig", None) or repr(error))[:500]
        if refused:
            due = asyncio.get_running_loop().time() + _REFUSED_AGAIN
            self._refused |= dict.fromkeys(refused, due)
            log.error(
                "dead letters that the database refuses stay in Redis",
                letters=[uid.decode("utf-8", "backslashreplace") for uid in refused],
                error=next(iter(refused.values())),
                retry_in=_REFUSED_AGAIN,
            )
        return set(refused)


def _ending(member: bytes) -> ReplayOutcome | None:
    """The letter, the item, and how its replay ended; None for what a foreign program wrote."""
    found = _ENDED.fullmatch(member)
    if found is None:
        return None
    how: ReplayResult = "completed" if found[3] == b"completed" else "aborted"
    return ReplayOutcome(int(found[1]), int(found[2]), how)
