"""The program as its users run it; modules of HTTP share one that serves, as their ``SERVER`` says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.served import Served, served
from tests.support.program import OpenTerminal, Program, Terminal, stop_server


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    made = Program(tmp_path)
    yield made
    for running in made.headless:
        running.close()
    stop_server(made.data_dir)


@pytest.fixture
def terminal(program: Program) -> Iterator[OpenTerminal]:
    opened: list[Terminal] = []

    def open_(*arguments: str, size: tuple[int, int] = (80, 24), **environment: str) -> Terminal:
        opened.append(Terminal(program, *arguments, size=size, **environment))
        return opened[-1]

    yield open_
    for running in opened:
        running.close()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for the whole module; ``SERVER`` in it has options for `served`."""
    with served(tmp_path_factory.mktemp("http"), **getattr(request.module, "SERVER", {})) as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    """A client of that server, with the token."""
    with server.client() as client:
        yield client
