"""``cache``: the command line of the cache."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.runner import DataDir, Json, act
from app.errors import UsageError

if TYPE_CHECKING:
    from app.cli.dead_letters_commands import How

cache = typer.Typer(
    rich_markup_mode=None,
    help="The cache of what users are shown: its entries, its figures, and how to evict some.",
)

_PART = "A part of a key, or with * ? [ a pattern for whole keys."

Key = Annotated[str, typer.Argument(metavar="KEY", help="As cache list has it: user:location:block.")]
Keys = Annotated[list[str] | None, typer.Argument(metavar="KEY", help="As cache list has them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@cache.command("list")
def list_entries(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help=_PART)] = "",
    limit: Annotated[
        int, typer.Option("--limit", help="Rows; a page may have some more, or fewer.", min=1, max=1000)
    ] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Entries with state, age, TTL and size, in no order.

    fresh: served without a thought.  stale: served only where it cannot be loaded.  outdated: invalidated,
    and never served again.  corrupt: not written by this program.
    """
    from app.cli import cache_commands as verbs

    sound = _sound(pattern, "PATTERN")
    act(
        data_dir,
        lambda each: verbs.list_entries(each.operations, sound, limit=limit, cursor=cursor, as_json=as_json),
        database="optional",
    )


@cache.command("get")
def get_entry(key: Key, data_dir: DataDir = None, as_json: Json = False) -> None:
    """One entry with its value; 1 where there is none."""
    from app.cli import cache_commands as verbs

    sound = _sound(key, "KEY")
    act(data_dir, lambda each: verbs.get_entry(each.operations, sound, as_json=as_json), database="optional")


@cache.command("evict")
def evict_entries(
    keys: Keys = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help=_PART, metavar="P")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Evict entries by key or pattern, after the count was shown; 1 where one that is named is not there.

    What is evicted is what was counted.  It is loaded again when somebody asks for it.
    """
    from app.cli import cache_commands as verbs

    if bool(keys) == (pattern is not None):
        raise UsageError("say which entries: either keys, or --pattern P; --pattern '*' means all")
    if pattern == "":
        raise UsageError("--pattern: is empty: use '*' for all entries")
    how = _how(dry_run=dry_run, yes=yes, as_json=as_json)
    if pattern is not None:
        sound = _sound(pattern, "--pattern")
        act(data_dir, lambda each: verbs.evict_matching(each.operations, sound, how), database="optional")
    named = [_sound(key, "KEY") for key in dict.fromkeys(keys or ())]
    act(data_dir, lambda each: verbs.evict_keys(each.operations, named, how), database="optional")


@cache.command("evict-user")
def evict_user(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id of a user.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Evict all entries of a user, after the count was shown; what is being loaded for them now, too."""
    from app.cli import cache_commands as verbs

    sound = _sound(user, "USER")
    if not sound:
        raise UsageError("USER: is empty: give the id of a user")
    how = _how(dry_run=dry_run, yes=yes, as_json=as_json)
    act(data_dir, lambda each: verbs.evict_user(each.operations, sound, how), database="optional")


@cache.command("stats")
def stats(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Hit rate of the last hour, how reads ended, memory, evictions by the server."""
    from app.cli import cache_commands as verbs

    act(data_dir, lambda each: verbs.stats(each.operations, as_json=as_json), database="optional")


def _sound(text: str, name: str) -> str:
    """Raises UsageError where a text is none that Redis could be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name}: is not UTF-8: copy it from cache list") from None
    return text


def _how(*, dry_run: bool, yes: bool, as_json: bool) -> How:
    """How it is done.  Raises UsageError where it would have to be asked, and nobody is there."""
    from app.cli.dead_letters_commands import How

    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("nobody is there to be asked: give --yes, or --dry-run to see what would happen")
    return How(dry_run=dry_run, yes=yes, as_json=as_json)
