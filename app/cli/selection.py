"""The letters that a command changes: ids, a filter, or all; and what is printed of a change beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.bulk import BulkOptions, require_answer
from app.cli.completion import complete_dead_letter
from app.cli.filter_options import FilterOptions
from app.errors import UsageError
from storage.dead_letters.filters import LetterFilter

if TYPE_CHECKING:
    from workers.operations.operations import Preview, Selection

Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID", help="Of dead letters.", autocompletion=complete_dead_letter),
]
All = Annotated[bool, typer.Option("--all", help="All that are dead.")]
Reason = Annotated[str, typer.Option("--reason", help="Recorded with the change.", metavar="TEXT")]


def parse_selection(
    ids: list[int] | None, filter_options: FilterOptions, all_: bool, *, state: str = "dead"
) -> Selection:
    """Return the selected letters.  Raises UsageError unless they are named in exactly one way."""
    if sum((bool(ids), bool(filter_options), all_)) != 1:
        raise UsageError("name the letters: ids, or filters such as --queue or --error, or --all")
    return list(dict.fromkeys(ids)) if ids else filter_options.letter_filter(state=state)


def is_confirmed(selection: Selection) -> bool:
    """Return whether a change is confirmed first: not that of one letter which is named."""
    return isinstance(selection, LetterFilter) or len(set(selection)) != 1


def bulk_options(
    selection: Selection, *, dry_run: bool, yes: bool, reason: str, as_json: bool
) -> BulkOptions:
    """Return how the letters are changed.  Raises UsageError if that cannot be confirmed."""
    options = BulkOptions(dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    if is_confirmed(selection) and options.needs_confirmation:
        require_answer()
    return options


def excluded_ids(selection: Selection, preview: Preview) -> tuple[int, ...]:
    """Return the named ids that a change leaves as they are."""
    if isinstance(selection, LetterFilter) or isinstance(preview.selection, LetterFilter):
        return ()
    changed = set(preview.selection)
    return tuple(letter_id for letter_id in dict.fromkeys(selection) if letter_id not in changed)


def preview_document(preview: Preview, excluded: Sequence[int]) -> Mapping[str, Any]:
    """Return a preview for programs."""
    return {
        "total": preview.total,
        "poison": preview.poison_excluded,
        "others": preview.not_dead,
        "left_out": excluded,
        "queues": dict(preview.queues),
        "groups": [asdict(group) for group in preview.groups],
        "seconds": preview.min_seconds,
    }
