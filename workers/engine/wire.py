"""SAQ's wire format: JSON, written and read with orjson if it gives the same as the standard library.

A stock producer may send integers beyond 64 bits, NaN, infinities and lone surrogates.  The library orjson
makes floats of these integers, writes null for NaN and infinities, and refuses lone surrogates.  So those few
payloads go through the standard library, and nothing is changed on its way.
"""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields
from typing import Any

import orjson
from saq import Job, Queue, Status

from storage.json import loads as load

__all__ = ["dump", "job_dict", "load", "make_job"]

_NAMES = {field.name for field in fields(Job)}
_REQUIRED = {"function", "key", "queue"}
_CONSTANTS = {field.name: field.default for field in fields(Job) if field.default is not MISSING}
_DEFAULTS = tuple((field.name, field.default) for field in fields(Job))


def job_dict(job: Job) -> dict[str, Any]:
    """Return the same as ``job.to_dict()`` in a third of the time: SAQ inspects the fields at each call."""
    values = job.__dict__
    job_fields = {
        name: value
        for name, default in _DEFAULTS
        if (value := values[name]) is not default and not _is_equal(value, default)
    }
    if not values["meta"]:
        job_fields.pop("meta", None)
    if values["queue"]:
        job_fields["queue"] = values["queue"].name
    return job_fields


def make_job(value: dict[str, Any], queue: Queue) -> Job:
    """Return the same as ``queue.deserialize(value)`` in a third of the time; ``value`` is changed.

    Raises what that raises; TypeError if ``value`` is not the record of a job.
    """
    if not _REQUIRED <= value.keys() <= _NAMES or value["queue"] != queue.name:
        job = queue.deserialize(value)
        if job is None:
            raise TypeError("an empty object")
        return job
    job = Job.__new__(Job)
    values = job.__dict__
    values.update(_CONSTANTS)
    values["meta"] = {}
    values.update(value)
    values["queue"] = queue
    if isinstance(values["status"], str):
        values["status"] = Status[values["status"].upper()]
    return job


def _is_equal(value: object, default: object) -> bool:
    try:
        return bool(value == default)
    except ValueError:  # of an array
        return False


def dump(value: Any) -> bytes:
    """Return ``value`` as JSON bytes.  Raises TypeError if it cannot be written as JSON."""
    try:
        body = orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
    if b"null" in body and not _is_finite(value):
        return json.dumps(value).encode()
    return body


def _is_finite(value: Any) -> bool:
    """Return whether ``value``, which orjson could write, holds neither NaN nor an infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return True


def encode_id(text: str) -> bytes:
    """Return the bytes of a job id that `decode_id` read."""
    return text.encode(errors="surrogateescape")


def decode_id(raw: bytes) -> str:
    """Return a job id as text; a foreign producer may make it of any bytes."""
    return raw.decode(errors="surrogateescape")
