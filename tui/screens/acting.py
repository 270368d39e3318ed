"""A view from which acts are carried out, one at a time."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tui.screens.view import View

_ACT = "act"


class Acting(View):
    """An act that goes on keeps others from beginning."""

    _at_work = ""
    """What the act does that goes on, once it has been asked for."""

    def act(self, doing: Coroutine[Any, Any, None]) -> None:
        """Carry out an act, unless one goes on: a key that is held down must not ask twice.

        It goes on when the view is left.
        """
        if any(worker.group == _ACT and worker.is_running for worker in self.app.workers):
            doing.close()
            if self._at_work:
                self.notify(f"{self._at_work} still")
        else:
            self.app.run_worker(doing, group=_ACT)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """While this goes on no other act begins."""
        self._at_work = doing
        try:
            yield
        finally:
            self._at_work = ""
