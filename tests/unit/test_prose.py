"""Docstrings of the product: sentences open with a verb, a noun or a condition."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "tui", "workers", "storage", "couturecast_handlers", "couturecast_tui")
INDIRECT = re.compile(r"(?:^|(?<=[.!?]))\s*(What|Whoever|Whatever|That|Where|Of|Nobody)\b")
"""Openings of sentences in which the subject comes late or never."""


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring, also of constants and attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


@pytest.mark.parametrize("package", PACKAGES)
def test_sentences_of_docstrings_open_with_their_subject_or_verb(package: str) -> None:
    openings = [
        f"{path.relative_to(ROOT)}:{line}: {match.group(0).strip()} …"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in _docstrings(path)
        if (match := INDIRECT.search(text))
    ]
    assert openings == []
