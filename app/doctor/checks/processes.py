"""Checks the worker processes of the cluster against the settings of this command."""

from __future__ import annotations

from collections.abc import Iterator

from app.doctor.checks.redis_server import RedisServer
from app.doctor.results import Finding, ok, warning
from workers.engine.keys import WORKERS
from workers.monitoring.roster import Evidence, roster
from workers.monitoring.snapshot import WorkerSnapshot

_DEFAULT = "the default"
_OF_WORKERS = {"run"}
"""Settings that matter only where jobs run, which a command does not."""


async def live_workers(server: RedisServer) -> list[WorkerSnapshot]:
    """Read the worker processes that are registered in a Redis and live."""
    announced: dict[bytes, bytes] = await server.client.hgetall(WORKERS)  # type: ignore[misc]
    seconds, microseconds = await server.client.time()
    workers = roster(Evidence(announced, beats={}, now=seconds + microseconds / 1e6), leases=())
    return [worker for worker in workers if worker.alive]


async def same_settings(server: RedisServer) -> Finding:
    """Find the processes whose queues have other settings, or other limits of alerts, than here."""
    workers = await live_workers(server)
    differences = [f"{worker.name}: {text}" for worker in workers for text in _differences(server, worker)]
    if not differences:
        count = f"{len(workers)} run" if workers else "none runs"
        return ok(f"{count}{', with the settings of this command' if workers else ''}")
    more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
    return warning(
        f"other settings than here: {differences[0]}{more}",
        "each process and each command judges limits and times by its own settings: they disagree on alerts",
        "give all processes, and the shell of the commands, the same settings",
    )


def _differences(server: RedisServer, worker: WorkerSnapshot) -> Iterator[str]:
    for queue, theirs in worker.settings.items():
        policy = server.policies.get(queue)
        if policy is not None:
            ours = policy.settings() | server.thresholds.settings(queue)
            for name in sorted((theirs.keys() | ours.keys()) - _OF_WORKERS):
                their_value, our_value = theirs.get(name, _DEFAULT), ours.get(name, _DEFAULT)
                if their_value != our_value:
                    yield f"{queue} {name} {_text(their_value)}, here {_text(our_value)}"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
