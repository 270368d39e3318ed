"""The arguments of a settlement, as Python writes them and settle.lua reads them."""

from __future__ import annotations

import re

import pytest
from redis.asyncio import Redis

from workers.engine.policy import DEFAULT_POLICIES
from workers.engine.queue import SETTLE_SCRIPT, JobQueue
from workers.engine.settlement import (
    SETTLEMENT_FIELDS,
    VERB_FIELDS,
    LetterPayload,
    Settlement,
    parse_lease,
)

VALUES = {
    "id": b"id",
    "lease": b"lease",
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


def _settlement(verb: str) -> Settlement:
    return Settlement(
        "id",
        b"lease",
        verb,
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


def _offsets() -> dict[str, int]:
    """Return the place of each argument in the script, counted from the first of its job."""
    offsets: dict[str, int] = {}
    for names, numbers in re.findall(r"^local ([A-Z_, ]+) = ([\d, ]+)$", SETTLE_SCRIPT.text, re.MULTILINE):
        offsets |= dict(zip(names.lower().split(", "), map(int, numbers.split(", ")), strict=True))
    return offsets


def test_the_script_reads_each_argument_of_a_settlement_at_its_position() -> None:
    offsets = _offsets()
    first = offsets.pop("first")
    (table,) = re.findall(r"^local WIDTH = \{(.*)\}$", SETTLE_SCRIPT.text, re.MULTILINE)
    widths = {name.strip("[']"): int(width) for name, width in re.findall(r"([\w\[\]']+) = (\d+)", table)}
    assert widths.keys() == VERB_FIELDS.keys()
    for verb, own in VERB_FIELDS.items():
        names, argv = (*SETTLEMENT_FIELDS, *own), _settlement(verb).to_argv()
        assert dict(zip(names, argv, strict=True)) == {"verb": verb} | {
            name: VALUES[name] for name in names if name != "verb"
        }
        assert [offsets[name] for name in names] == list(range(len(argv)))
        assert widths[verb] == len(argv)
    assert {name for own in VERB_FIELDS.values() for name in own} | set(SETTLEMENT_FIELDS) == offsets.keys()
    queue = JobQueue(Redis(), next(iter(DEFAULT_POLICIES.values())))
    assert len(queue.settle_call([]).args) == first - 1


@pytest.mark.parametrize(
    ("lease", "worker", "taken_ms"),
    [
        (b"ann:17:1700000000000", b"ann", b"1700000000000"),
        (b"ann:1:2:3", b"ann", b"3"),
        (b"ann:17", b"ann", b"17"),
        (b"ann", b"ann", b""),
        (b"", b"", b""),
    ],
)
def test_a_lease_names_its_worker_and_the_time_of_the_take(
    lease: bytes, worker: bytes, taken_ms: bytes
) -> None:
    assert parse_lease(lease) == (worker, taken_ms)
