"""Groups name the releases in which their letters died, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage.database.engine import Database
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from tests.support.letters import NOON, letter


async def _record(database: Database, *died: tuple[str, str | None]) -> DeadLetterRepository:
    """Record a letter for each fingerprint and release, in this order."""
    letters = DeadLetterRepository(database)
    await letters.record(
        [
            letter(f"u{number}", fingerprint=fingerprint * 16, release=release)
            for number, (fingerprint, release) in enumerate(died)
        ]
    )
    return letters


async def test_a_group_names_its_releases_the_newest_letter_first(database: Database) -> None:
    letters = await _record(
        database,
        ("a", "2.0"),
        ("a", None),
        ("b", "1.0"),
        ("a", "10.0"),
        ("a", "1.0"),
        ("a", "10.0"),
        ("c", None),
    )
    groups = {group.fingerprint[0]: group.releases for group in await letters.groups()}
    assert groups == {"a": ("10.0", "1.0", "2.0"), "b": ("1.0",), "c": ()}
    found = {item.job_id: item.release for item in (await letters.page()).items}
    assert set(found.values()) <= {None, "1.0", "2.0", "10.0"}


async def test_a_search_and_the_archive_name_releases_too(database: Database) -> None:
    letters = await _record(database, ("a", "1"), ("a", "2"))
    (found,) = await letters.groups(LetterFilter(error="503"))
    assert found.releases == ("2", "1")
    await letters.archive(NOON + timedelta(days=1))
    (archived,) = await letters.groups(LetterFilter(archived=True))
    assert archived.releases == ("2", "1")


async def test_a_group_names_at_most_twenty_releases(database: Database) -> None:
    letters = await _record(database, *(("a", f"r{number:03}") for number in range(50)))
    (group,) = await letters.groups()
    assert group.releases == tuple(f"r{number:03}" for number in range(49, 29, -1))


async def test_an_odd_release_of_another_program_is_recorded(database: Database) -> None:
    letters = await _record(database, ("a", "x" * 10_000), ("a", "a\0b\ud800"))
    (group,) = await letters.groups()
    assert [release[:3] for release in group.releases] == ["a\\x", "xxx"]


@pytest.mark.slow
async def test_many_groups_have_their_releases(database: Database) -> None:
    letters = DeadLetterRepository(database)
    many = [f"{number:016x}" for number in range(250)]
    await letters.record([letter(name, fingerprint=name, release="r") for name in many])
    groups = await letters.groups(limit=1_000)
    assert {group.fingerprint: group.releases for group in groups} == dict.fromkeys(many, ("r",))
