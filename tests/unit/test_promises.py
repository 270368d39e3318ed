"""Each promise of the engine, E1 to E15, has a quick test: one that ``make test`` runs."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PROMISES = range(1, 16)
_NAME = re.compile(r"test_((?:e\d+_)+)")


def _is_slow(decorators: list[ast.expr]) -> bool:
    return any(ast.unparse(decorator).startswith("pytest.mark.slow") for decorator in decorators)


def _quick_tests(source: str) -> Iterator[tuple[int, str]]:
    """Number of a promise and name of a test that shows it, for each test of a file that is not slow."""
    if not re.search(r"\bdef test_e\d", source) or re.search(
        r"^pytestmark = .*\bslow\b", source, re.MULTILINE
    ):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_slow(node.decorator_list):
            match = _NAME.match(node.name)
            for number in re.findall(r"\d+", match[1]) if match else ():
                yield int(number), node.name


@functools.cache
def _promises_with_quick_tests() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for number, name in _quick_tests(path.read_text()):
            found.setdefault(number, []).append(f"{path.relative_to(TESTS)}::{name}")
    return found


def test_slow_tests_do_not_count() -> None:
    source = """
@pytest.mark.slow
def test_e1_long(): ...
@pytest.mark.parametrize("n", [1])
async def test_e2_e3_short(n): ...
"""
    assert list(_quick_tests(source)) == [(2, "test_e2_e3_short"), (3, "test_e2_e3_short")]
    assert list(_quick_tests(f"pytestmark = [pytest.mark.slow]\n{source}")) == []


@pytest.mark.parametrize("number", PROMISES)
def test_the_promise_has_a_quick_test(number: int) -> None:
    assert _promises_with_quick_tests().get(number), (
        f"no quick test is named test_e{number}_: make test does not show this promise"
    )
