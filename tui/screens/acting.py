"""A view from which acts are carried out, one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec

from tui.screens.base import View

P = ParamSpec("P")

_ACT = "act"


class Acting(View):
    """An act that goes on keeps others from beginning."""

    _at_work = ""
    """What the act does that goes on, once it has been asked for."""

    def act(self, doing: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Carry out an act, unless one goes on: a key that is held down must not ask twice.

        It goes on when the view is left.  It is a function and not yet a coroutine, which would never be
        awaited where the dashboard ends before the act begins.
        """
        if any(worker.group == _ACT and worker.is_running for worker in self.app.workers):
            if self._at_work:
                self.notify(f"{self._at_work} still")
        else:
            self.app.run_worker(partial(doing, *args, **kwargs), group=_ACT)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """While this goes on no other act begins."""
        self._at_work = doing
        try:
            yield
        finally:
            self._at_work = ""
