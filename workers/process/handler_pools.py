"""The handler processes of a worker process: which they are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.engine.runner import SaqFunction
from workers.handlers.processes.pool import HandlerPool


class HandlerPools:
    """Pools of the queues whose functions run in processes; ``on_problem`` is called when problems change."""

    def __init__(self, functions: Mapping[str, SaqFunction], *, on_problem: Callable[[], None]) -> None:
        pools = {name: HandlerPool.for_function(function) for name, function in functions.items()}
        self._pools = {name: pool for name, pool in pools.items() if pool is not None}
        for pool in self._pools.values():
            pool.on_problem = on_problem

    def problems(self) -> dict[str, str]:
        """Return why the handlers of some queues cannot be started, by queue."""
        return {
            name: f"its handler cannot run: {pool.problem}"
            for name, pool in self._pools.items()
            if pool.problem is not None
        }

    def pids(self) -> list[int]:
        """Return the pids of all processes that run."""
        processes = [process for pool in self._pools.values() for process in pool.processes]
        return [process.pid for process in processes if process.pid is not None]
