"""Changes to many things at once: print what would change, ask, change, print what was changed."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.cli import output
from app.errors import AppError, UsageError
from workers.errors import ReadOnlyError

if TYPE_CHECKING:
    from workers.operations.operations import Operations


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """Options of a bulk change: preview it only, skip the question, its reason, and print JSON."""

    dry_run: bool = False
    yes: bool = False
    reason: str = ""
    as_json: bool = False

    @property
    def needs_confirmation(self) -> bool:
        """Whether the operator confirms the change first."""
        return not (self.yes or self.dry_run)


@dataclass(frozen=True, kw_only=True)
class BulkChange:
    """A change that was counted, and not made yet."""

    total: int
    summary: str
    """The changes, for people."""
    document: Mapping[str, Any]
    """The same for programs."""
    question: str
    """Asked before the change, unless it is empty."""
    make: Callable[[], Awaitable[int]]
    """Makes the change and returns how many things it changed."""
    result_text: Callable[[int], str]
    result_document: Callable[[int], Mapping[str, Any]]
    even_if_none: bool = False
    """Whether the change is made although nothing was counted."""


async def make_change(change: BulkChange, options: BulkOptions) -> None:
    """Print what would change, ask, change, print what was changed.  Raises AppError if the answer is no."""
    if not go_on_after_preview(change.summary, change.document, options):
        return
    if change.total and change.question and options.needs_confirmation:
        confirm(change.question)
    result = await change.make() if change.total or change.even_if_none else 0
    document = {"dry_run": False, **change.result_document(result)}
    output.print_result(change.result_text(result), document, as_json=options.as_json)


def go_on_after_preview(summary: str, document: Mapping[str, Any], options: BulkOptions) -> bool:
    """Print what would change: the output of a dry run, a note otherwise.  Returns whether to change it."""
    if options.dry_run and options.as_json:
        output.print_json({"dry_run": True, **document})
    elif options.dry_run:
        output.print_text(summary)
    elif not options.as_json:
        output.print_note(summary)
    return not options.dry_run


def confirm(question: str) -> None:
    """Raises AppError unless the answer is yes."""
    if not output.ask(question):
        raise AppError("nothing was changed")


def require_answer(*, fix: str = "give --yes, or --dry-run to see what would change") -> None:
    """Raises UsageError if standard input is not a terminal, so that no answer can be given."""
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: standard input is not a terminal", fix=fix)


def check_writable(operations: Operations, verb: str, options: BulkOptions) -> None:
    """Raises ReadOnlyError before a question about a change that read-only mode refuses in the end."""
    if operations.read_only and not options.dry_run:
        raise ReadOnlyError(verb)
