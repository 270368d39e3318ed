"""Patterns that find cache entries, and the owner of an entry by its key."""

from __future__ import annotations

import pytest

from storage.cache.entries import CacheKey
from workers.operations.cache import glob_pattern, owner_of


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "*"),
        ("anna", "*anna*"),
        ("anna:lisboa:2026-03-01T12", "*anna:lisboa:2026-03-01T12*"),
        ("josé", "*jos%C3%A9*"),
        ("jos%C3%A9", "*jos%C3%A9*"),
        ("a\\b", "*a%5Cb*"),
        ("anna:*", "anna:*"),
        ("José?:[lp]*", "Jos%C3%A9?:[lp]*"),
        (r"a\*b", r"a\*b"),
        ("a b*", "a b*"),
        ("\x1b*", "%1B*"),
    ],
)
def test_plain_text_is_a_part_and_the_rest_a_pattern(text: str, pattern: str) -> None:
    assert glob_pattern(text) == pattern


@pytest.mark.parametrize("user", ["anna", "josé:x", "a*b [c]", "auth0|5f/7", ""])
def test_a_key_has_its_user(user: str) -> None:
    assert owner_of(str(CacheKey(user, "lisboa:2026-03-01T12"))) == user


def test_a_foreign_key_has_a_user_too() -> None:
    assert owner_of("%FF") == "\N{REPLACEMENT CHARACTER}"
