"""Records each action of an operator that changes something, and refuses it in read-only mode."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from storage.database.events import NewEvent
from storage.errors import StorageError
from storage.repositories.operator_actions import OperatorAction, OperatorActionRepository
from workers.errors import ReadOnlyError
from workers.operations.action_events import event_of

log = structlog.get_logger(__name__)

_RECORD_SECONDS = 2.0
"""Timeout of writing the record."""
_MAX_OUTCOME_CHARS = 500

current_actor: ContextVar[str | None] = ContextVar("current_actor", default=None)
"""The actor of this task, if that is not the user of the process: the caller of an HTTP request."""


@contextmanager
def acting_as(actor: str) -> Iterator[None]:
    """Record actions in this block, and in tasks that it starts, as those of ``actor``."""
    token = current_actor.set(actor)
    try:
        yield
    finally:
        current_actor.reset(token)


@dataclass(slots=True)
class AuditedAction:
    """The part of the record that the verb fills in while it runs."""

    affected: int = 1
    outcome: str = "done"
    done_so_far: int = 0
    """Recorded as ``affected`` if the verb fails."""
    subject: str | None = None
    """Subject of the event: the id of the plan that the verb made."""
    event: NewEvent | None = None
    """The event that the action is, in place of the one that its verb has."""
    failed: bool = False

    def count(self, number: int) -> None:
        """Add ``number`` to what is done so far."""
        self.done_so_far += number


class Audit:
    """Records the actions of the current actor, by default ``actor``; with ``read_only`` it refuses them."""

    def __init__(
        self, actions: OperatorActionRepository, *, actor: str | None = None, read_only: bool = False
    ) -> None:
        self.actions = actions
        self.read_only = read_only
        self._default_actor = actor or f"{_user_name()}@{socket.gethostname()}"

    @property
    def actor(self) -> str:
        """Who acts now."""
        return current_actor.get() or self._default_actor

    def check_writable(self, verb: str) -> None:
        """Raises ReadOnlyError in read-only mode."""
        if self.read_only:
            raise ReadOnlyError(verb)

    @asynccontextmanager
    async def record(
        self, verb: str, arguments: Mapping[str, Any], reason: str = ""
    ) -> AsyncIterator[AuditedAction]:
        """Wrap a verb that changes something: it is refused in read-only mode, else one row records it.

        If the database is down, the action is neither delayed nor refused: it is logged instead.
        """
        self.check_writable(verb)
        action = AuditedAction()
        try:
            yield action
        except asyncio.CancelledError:
            action.affected, action.outcome, action.failed = action.done_so_far, "interrupted", True
            raise
        except Exception as error:
            action.affected, action.failed = action.done_so_far, True
            action.outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            await self._write(verb, arguments, reason, action)

    async def _write(
        self, verb: str, arguments: Mapping[str, Any], reason: str, action: AuditedAction
    ) -> None:
        now, outcome = datetime.now(UTC), action.outcome[:_MAX_OUTCOME_CHARS]
        record = OperatorAction(now, self.actor, verb, dict(arguments), action.affected, reason, outcome)
        event = action.event or event_of(record, subject=action.subject, failed=action.failed)
        try:
            async with asyncio.timeout(_RECORD_SECONDS):
                await self.actions.record(record, event)
        except (StorageError, TimeoutError) as error:
            log.warning("an action is recorded in this log only", action=asdict(record), error=str(error))


def _user_name() -> str:
    """Return the user who runs this process; a container may run it as a user without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
