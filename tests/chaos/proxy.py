"""A proxy between worker and server that cuts a connection at a chosen command, or lets nothing pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

from workers.dead_letters.recorder import LETTERS_SCRIPT
from workers.engine.enqueueing import ENQUEUE_SCRIPT
from workers.engine.queue import LOST_SCRIPT, SETTLE_SCRIPT, TAKE_SCRIPT
from workers.engine.settlement import SETTLEMENT_FIELDS, VERB_FIELDS
from workers.process.heartbeat import BEAT_SCRIPT
from workers.process.presence import ANNOUNCE_SCRIPT

_SCRIPTS = {
    word: script.name
    for script in (
        TAKE_SCRIPT,
        SETTLE_SCRIPT,
        LOST_SCRIPT,
        BEAT_SCRIPT,
        ANNOUNCE_SCRIPT,
        ENQUEUE_SCRIPT,
        LETTERS_SCRIPT,
    )
    for word in (script.sha.encode(), script.text.encode())
}
_SETTLE_HEAD = 9  # see settle.lua


_PING = b"*1\r\n$4\r\nPING\r\n"
_TOO_LARGE = b"-ERR max request size exceeded\r\n"


class Cut(Enum):
    """When the connection ends: the server never gets the command, or the client not all of the reply."""

    BEFORE = "before the command passes"
    MIDDLE = "in the middle of its reply"
    AFTER = "before its reply passes"


def kinds(command: list[bytes]) -> set[str]:
    """Return the name of a command: of a script, of ``settle`` with each of its verbs, or its own."""
    if command[0].upper() not in (b"EVALSHA", b"EVAL"):
        return {command[0].decode().upper()}
    script = _SCRIPTS.get(command[1], "?")
    if script != "settle":
        return {script}
    found, at = {script}, 3 + int(command[2]) + _SETTLE_HEAD
    while at < len(command):
        verb = command[at + SETTLEMENT_FIELDS.index("verb")].decode()
        found.add(f"settle {verb}")
        at += len(SETTLEMENT_FIELDS) + len(VERB_FIELDS[verb])
    return found


class Proxy:
    """Listens on a loopback port of its own; ``url`` is the server's, by way of it."""

    def __init__(self, server_port: int, *, largest: int | None = None) -> None:
        self.url = ""
        self.largest = largest
        """Bytes of a command; one that has more is refused, as managed servers do.  None: no limit."""
        self.refused: list[str] = []
        """The scripts, or commands, that were refused, in order."""
        self.most = 0
        """Bytes of the largest command that came."""
        self.largest_reply = 0
        self.cuts: list[str] = []
        """The commands that were cut, in order."""
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._armed: tuple[str, Cut, int] | None = None
        self._open = asyncio.Event()
        self._open.set()

    async def start(self) -> None:
        """Accept connections."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        """Close everything."""
        assert self._listener is not None
        self._listener.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def lead_to(self, server_port: int) -> None:
        """New connections lead to another server; those that are open stay where they are."""
        self._server_port = server_port

    def close_links(self) -> None:
        """Close all connections, as a proxy closes those that are idle."""
        for link in list(self._links):
            link.cancel()

    def arm(self, kind: str, cut: Cut, number: int = 1) -> None:
        """Cut the connection of the ``number``-th command of ``kind`` from now on, once."""
        self._armed = (kind, cut, number)

    @property
    def armed(self) -> bool:
        """Whether the cut is still to come."""
        return self._armed is not None

    def hold(self) -> None:
        """Let nothing pass, in either direction, and cut nothing: a cable that was pulled."""
        self._open.clear()

    def release(self) -> None:
        """Let everything pass again, also what was held."""
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        try:
            await _Link(self, (reader, writer), upstream).run()
        finally:
            writer.close()
            upstream[1].close()

    def decide(self, command: list[bytes]) -> Cut | None:
        """Decide whether to cut the connection at this command, and when."""
        if self._armed is None:
            return None
        kind, cut, number = self._armed
        if kind not in kinds(command):
            return None
        self._armed = (kind, cut, number - 1) if number > 1 else None
        if self._armed is not None:
            return None
        self.cuts.append(kind)
        return cut

    def refuses(self, raw: bytes, command: list[bytes]) -> bool:
        """Whether a command is too large."""
        self.most = max(self.most, len(raw))
        if self.largest is None or len(raw) <= self.largest:
            return False
        self.refused.append(" ".join(sorted(kinds(command))))
        return True

    async def may_pass(self) -> None:
        """Wait while nothing passes."""
        await self._open.wait()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection: commands one way, replies the other, each as a whole."""

    def __init__(self, proxy: Proxy, client: Stream, server: Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._passed = 0
        self._refused: set[int] = set()
        """The numbers of the replies in whose place the client gets a refusal."""
        self._cut_at: tuple[int, Cut] | None = None
        """The number of the reply at which the connection ends."""

    async def run(self) -> None:
        """Until either side closes, or the connection is cut."""
        ways = [asyncio.create_task(self._commands()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _commands(self) -> None:
        async for raw, command in _frames(self._client[0]):
            await self._proxy.may_pass()
            cut = self._proxy.decide(command) if self._cut_at is None else None
            if cut is Cut.BEFORE:
                await self._drained()
                return
            if cut is not None:
                self._cut_at = (self._passed, cut)
            if self._proxy.refuses(raw, command):
                self._refused.add(self._passed)
                raw = _PING
            self._passed += 1
            self._server[1].write(raw)
            await self._server[1].drain()

    async def _drained(self) -> None:
        """Let the server answer what it was asked before, so that the cut lies between two commands."""
        self._cut_at = (self._passed, Cut.AFTER)
        self._server[1].write(_PING)
        await asyncio.Event().wait()

    async def _replies(self) -> None:
        number = 0
        async for raw, _ in _frames(self._server[0]):
            await self._proxy.may_pass()
            self._proxy.largest_reply = max(self._proxy.largest_reply, len(raw))
            if self._cut_at is not None and number == self._cut_at[0]:
                if self._cut_at[1] is Cut.MIDDLE:
                    self._client[1].write(raw[: len(raw) // 2])
                    await self._client[1].drain()
                return
            self._client[1].write(_TOO_LARGE if number in self._refused else raw)
            number += 1
            await self._client[1].drain()


async def _frames(reader: asyncio.StreamReader) -> Any:
    """Each RESP value of a stream: its bytes, and if it is a command its words."""
    while True:
        raw = bytearray()

        async def line(raw: bytearray = raw) -> bytes:
            read = await reader.readuntil(b"\r\n")
            raw.extend(read)
            return read

        try:
            value = await _value(line, reader, raw)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        yield bytes(raw), value if isinstance(value, list) else [value]


async def _value(line: Callable[[], Any], reader: asyncio.StreamReader, raw: bytearray) -> Any:
    head = await line()
    kind, rest = head[:1], head[1:-2]
    if kind in b"$=!":
        size = int(rest)
        if size < 0:
            return b""
        body = await reader.readexactly(size + 2)
        raw.extend(body)
        return body[:-2]
    if kind in b"*~>%":
        count = max(0, int(rest)) * (2 if kind == b"%" else 1)
        return [await _value(line, reader, raw) for _ in range(count)]
    return rest
