"""Around every act of an operator: read-only mode refuses it, or one row says what it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from storage.errors import StorageError
from storage.repositories.operator_actions import OperatorAction, OperatorActionRepository
from workers.errors import ReadOnlyError

log = structlog.get_logger(__name__)

_RECORDING = 2.0
"""Seconds that the record of an act may take."""
_OUTCOME = 500  # characters


@dataclass(slots=True)
class AuditedAction:
    """What a verb says of itself while it is carried out."""

    affected: int = 1
    outcome: str = "done"
    done_so_far: int = 0
    """What counts where it fails on the way."""

    def count(self, number: int) -> None:
        """So many more are done."""
        self.done_so_far += number


@dataclass(frozen=True, slots=True)
class Audit:
    """The acts of ``actor``; with ``read_only`` there are none."""

    actions: OperatorActionRepository
    actor: str
    read_only: bool

    def check_writable(self, verb: str) -> None:
        """Raises ReadOnlyError where nothing may be changed."""
        if self.read_only:
            raise ReadOnlyError(verb)

    @asynccontextmanager
    async def record(
        self, verb: str, arguments: Mapping[str, Any], reason: str = ""
    ) -> AsyncIterator[AuditedAction]:
        """Around every verb that changes something: refused in read-only mode, else one row says what was.

        A database that is away delays nothing and refuses nothing: then the log has the act.
        """
        self.check_writable(verb)
        act = AuditedAction()
        try:
            yield act
        except asyncio.CancelledError:
            act.affected, act.outcome = act.done_so_far, "broken off"
            raise
        except Exception as error:
            act.affected, act.outcome = act.done_so_far, f"{type(error).__name__}: {error}"
            raise
        finally:
            await self._write(verb, arguments, reason, act)

    async def _write(self, verb: str, arguments: Mapping[str, Any], reason: str, act: AuditedAction) -> None:
        now = datetime.now(UTC)
        done = OperatorAction(
            now, self.actor, verb, dict(arguments), act.affected, reason, act.outcome[:_OUTCOME]
        )
        try:
            async with asyncio.timeout(_RECORDING):
                await self.actions.record(done)
        except (StorageError, TimeoutError) as error:
            log.warning("an act is in this log only", act=asdict(done), error=str(error))
