"""The arguments of a settlement, as Python writes them and settle.lua reads them."""

from __future__ import annotations

import re

from redis.asyncio import Redis

from workers.engine.policy import DEFAULT_POLICIES
from workers.engine.queue import SETTLE_SCRIPT, JobQueue
from workers.engine.settlement import SETTLEMENT_FIELDS, LetterPayload, Settlement

SETTLEMENT = Settlement(
    "id",
    b"lease",
    "verb",
    b"body",
    delay=0.25,
    letter_uid="letter_uid",
    letter=b"letter",
    letter_payload=LetterPayload.AS_STORED,
    abort_key="abort_key",
    replay_outcome=b"outcome",
    wait_seconds=0.0018,
    run_seconds=None,
    lost=True,
)


def _constants(line: str) -> dict[str, int]:
    """The names and the numbers of a statement ``local A, B = 1, 2`` of the script."""
    names, numbers = line.split("=")
    return dict(zip(re.findall(r"[A-Z_]+", names), map(int, re.findall(r"\d+", numbers)), strict=True))


def test_the_script_reads_each_argument_of_a_settlement_at_its_position() -> None:
    (width,) = re.findall(r"^local (FIRST, WIDTH = .*)$", SETTLE_SCRIPT.text, re.MULTILINE)
    (offsets,) = re.findall(r"^local (ID, LEASE, [^=]*=[\d,\s]*)$", SETTLE_SCRIPT.text, re.MULTILINE)
    fields = tuple(name.lower() for name in _constants(offsets))
    assert tuple(_constants(offsets).values()) == tuple(range(len(SETTLEMENT_FIELDS)))
    assert fields == SETTLEMENT_FIELDS
    assert dict(zip(fields, SETTLEMENT.to_argv(), strict=True)) == {
        "id": b"id",
        "lease": b"lease",
        "verb": "verb",
        "body": b"body",
        "delay_ms": 250,
        "letter_uid": "letter_uid",
        "letter": b"letter",
        "payload": "stored",
        "abort_key": "abort_key",
        "outcome": b"outcome",
        "wait": 3,
        "wait_us": 1800,
        "run": "",
        "run_us": "",
        "lost": "1",
    }
    constants = _constants(width)
    queue = JobQueue(Redis(), next(iter(DEFAULT_POLICIES.values())))
    assert len(queue.settle_call([]).args) == constants["FIRST"] - 1
    assert len(queue.settle_call([SETTLEMENT]).args) == constants["FIRST"] - 1 + constants["WIDTH"]
