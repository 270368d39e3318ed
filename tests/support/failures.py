"""Functions that fail somewhere known, and the errors that they raise."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

HERE = __name__
"""Begins the frames of these functions."""


def raised(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def fail(*_: Any) -> Any:
    raise ValueError("no")


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        function(*args)
        return function(*args)

    return wrapped


class Shop:
    def sell(self) -> None:
        fail()

    @staticmethod
    def read() -> None:
        json.loads("{")

    @twice
    def sell_twice(self) -> None:
        raise KeyError("no")

    async def deliver(self) -> None:
        await asyncio.sleep(0)
        raise ConnectionError("no")

    async def hang(self) -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0)

    async def deliver_in_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.deliver())


def chained() -> None:
    try:
        fail()
    except ValueError as error:
        raise RuntimeError("again") from error


def nested() -> Callable[[], Any]:
    def inner() -> None:
        raise ValueError("no")

    return inner
