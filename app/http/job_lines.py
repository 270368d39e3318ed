"""Jobs from a body of one JSON object a line, of any length: memory stays as it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import structlog
from fastapi import Request
from pydantic import ValidationError
from redis.exceptions import RedisError, ResponseError
from starlette.requests import ClientDisconnect

from app.http.problems import RETRY_AFTER, ProblemError, field_problems, problem_of, validation_problem
from app.http.routing import MAX_BODY_BYTES
from app.pending_lines import PendingLines
from storage.redis.refusals import explain
from workers.engine.json_input import parse_json
from workers.errors import InvalidJobError, InvalidJsonError
from workers.operations.operations import NewJob, Operations

log = structlog.get_logger(__name__)

LINE_SECONDS = 30.0
"""Within which a line must come to its end, also one without a job."""
_PAUSE_SECONDS = 0.05
"""Without a byte, after which the lines that have come are enqueued: fewer and larger batches cost less."""
_POLL_SECONDS = 0.5
"""Between two checks whether the process ends."""
_MAX_LISTED = 20

Parse = Callable[[Any], NewJob]
"""Makes a job of a value.  Raises pydantic's ValidationError."""


class JobLines(PendingLines):
    """The jobs of a request, and how far they have been read and enqueued."""

    def __init__(self, request: Request, parse: Parse, closing: asyncio.Event, first_line: int) -> None:
        super().__init__(first_line)
        self.enqueued = 0
        self.duplicates = 0
        """Jobs whose key was queued already."""
        self._duplicate_lines: list[int] = []
        """The first of them."""
        self._request = request
        self._parse = parse
        self._closing = closing
        self._problem: ProblemError | None = None
        """The problem of the line that was read last."""
        self._disconnected = False

    async def enqueue(self, operations: Operations, queue: str) -> None:
        """Enqueue all jobs while the body is read.  Raises ProblemError, which has how to go on."""
        # Read-only mode refuses before the body comes.
        await operations.queues.enqueue_many(queue, [], audited=False)
        try:
            async for block in self._blocks():
                jobs = operations.queues.enqueue_stream(queue, self._jobs(block), audited=False)
                async with aclosing(jobs) as batches:
                    async for keys in batches:
                        self._note(keys)
                if self._problem is not None:
                    raise self._problem
        except InvalidJobError as error:
            raise self._stop_problem(validation_problem([(f"line {self.next_line}", str(error))])) from None
        except RedisError as error:
            unsure = "" if isinstance(error, ResponseError) else ", and perhaps some more"
            unavailable = ProblemError(503, explain(error), headers=RETRY_AFTER)
            raise self._stop_problem(unavailable, unsure) from None
        except (ProblemError, ClientDisconnect, OSError) as error:
            problem = problem_of(error)
            assert problem is not None  # noqa: S101
            raise self._stop_problem(problem) from None

    @property
    def duplicate_lines(self) -> str:
        """The lines of the jobs whose key was queued already."""
        lines = ", ".join(map(str, self._duplicate_lines))
        more = self.duplicates - len(self._duplicate_lines)
        return f"{lines} and {more} more" if more else lines

    def _note(self, keys: list[str | None]) -> None:
        for line, key in zip(self.confirm(len(keys)), keys, strict=True):
            if key is not None:
                self.enqueued += 1
                continue
            self.duplicates += 1
            if len(self._duplicate_lines) < _MAX_LISTED:
                self._duplicate_lines.append(line)

    def _stop_problem(self, problem: ProblemError, unsure: str = "") -> ProblemError:
        """Return the problem with what was enqueued before it, and how to go on."""
        members = problem.problem.model_dump(include={"errors"}) | {
            "enqueued": self.enqueued,
            "next_line": self.next_line,
        }
        go_on = f"{self.enqueued} jobs were enqueued{unsure}; from_line={self.next_line} goes on"
        return ProblemError(
            problem.status_code, f"{problem.detail}: {go_on}", headers=problem.headers, **members
        )

    def _jobs(self, block: bytes) -> Iterator[NewJob]:
        """Yield the jobs of a block, up to a line that is wrong: those before it are to be enqueued."""
        for line in block.split(b"\n"):
            self.line += 1
            if self.line < self.first_line or not line.strip():
                continue
            try:
                job = self._parse_line(line)
            except ProblemError as problem:
                self._problem = problem
                return
            self.add()
            yield job

    def _parse_line(self, line: bytes) -> NewJob:
        if len(line) > MAX_BODY_BYTES:
            raise self._too_long()
        try:
            return self._parse(parse_json(line))
        except InvalidJsonError as error:
            raise ProblemError(400, f"line {self.line}: {error}") from None
        except ValidationError as error:
            raise validation_problem(
                (f"line {self.line}" + (f", {field}" if field else ""), message)
                for field, message in field_problems(error)
            ) from None

    def _too_long(self) -> ProblemError:
        return ProblemError(413, f"line {self.line} has more than {MAX_BODY_BYTES:,} bytes")

    async def _blocks(self) -> AsyncIterator[bytes]:
        """Yield whole lines, as many as have come: their last one is without its end.

        Raises ProblemError, ClientDisconnect.
        """
        block = bytearray()
        more = True
        while more:
            self._check_closing()
            more = await self._fill(block)
            end = block.rfind(b"\n") if more or self._disconnected else len(block)
            if block and end >= 0:
                yield bytes(block[:end])
            del block[: end + 1]
            if len(block) > MAX_BODY_BYTES:
                self.line += 1
                raise self._too_long()
        if self._disconnected:
            self.line += 1
            log.warning("a client left while it sent jobs", enqueued=self.enqueued, line=self.line)
            raise ClientDisconnect

    async def _fill(self, block: bytearray) -> bool:
        """Read until ``block`` is long, or the client pauses after a line; False at the end of the body."""
        has_line = False
        deadline = time.monotonic() + LINE_SECONDS
        while len(block) <= MAX_BODY_BYTES:
            timeout = _PAUSE_SECONDS if has_line else min(_POLL_SECONDS, deadline - time.monotonic())
            try:
                async with asyncio.timeout(timeout):
                    message = await self._request.receive()
            except TimeoutError:
                if has_line:
                    return True
                self._check_closing()
                self._check_wait(deadline)
                continue
            if message["type"] == "http.disconnect":
                self._disconnected = True
                return False
            body = message.get("body", b"")
            block += body
            has_line = has_line or b"\n" in body
            if not message.get("more_body", False):
                return False
        return True

    def _check_closing(self) -> None:
        """Raises ProblemError if the process ends: a body of any length would hold it up."""
        if self._closing.is_set():
            self.line += 1
            raise ProblemError(503, "the process ends", headers={"Connection": "close", **RETRY_AFTER})

    def _check_wait(self, deadline: float) -> None:
        """Raises ProblemError if the line is not to be waited for any longer."""
        if time.monotonic() >= deadline:
            self.line += 1
            raise ProblemError(
                408,
                f"line {self.line} took longer than {LINE_SECONDS:g} s",
                headers={"Connection": "close"},
            )
