"""Shared by the tests of ``upstash``: the real program, and a server with the documented API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from app.upstash.spec import DATABASES
from tests.support.program import Done, Program
from tests.support.upstash_api import EMAIL, KEY, Upstash, serving

ALL = [spec.name for spec in DATABASES]
HEADER = base64.b64encode(f"{EMAIL}:{KEY}".encode()).decode()
FREE = {"type": "free"}
PAID = {"type": "payg", "budget": 2_000}
CACHE = {"type": "payg", "budget": 1_000, "eviction": True}


@dataclass(frozen=True)
class Operator:
    """Somebody with the program and the key."""

    program: Program
    upstash: Upstash

    @property
    def environment(self) -> dict[str, str]:
        return {"UPSTASH_EMAIL": EMAIL, "UPSTASH_API_KEY": KEY, "UPSTASH_API_URL": self.upstash.url}

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Before the command, the program takes the data directory that nothing of this needs."""
        return ("--data-dir", str(self.program.data_dir), "upstash", *arguments)

    def run(self, *arguments: str, **environment: str) -> Done:
        """A run that tells no secret."""
        done = self.program.run(*self.command(*arguments), **(self.environment | environment))
        output = done.out + done.err
        assert KEY not in output
        assert HEADER not in output
        assert "secret" not in output, "a password"
        assert "token-of" not in output
        assert "Traceback" not in output
        return done

    def fails(self, *arguments: str, code: int = 1, **environment: str) -> str:
        """The one line that it ends with."""
        done = self.run(*arguments, **environment)
        assert done.code == code, done
        (line,) = done.errors
        return line


@pytest.fixture
def upstash() -> Iterator[Upstash]:
    with serving() as made:
        yield made


@pytest.fixture
def operator(program: Program, upstash: Upstash) -> Operator:
    return Operator(program, upstash)


def fill(upstash: Upstash) -> None:
    """All databases, as they should be."""
    for name, fields in zip(ALL, (FREE, FREE, PAID, CACHE), strict=True):
        upstash.add(name, **fields)
