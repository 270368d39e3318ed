"""``make bench``: take the measurements in turn, print the table.  No figure makes it fail; lost jobs do."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from tests.benchmarks import against_peers, alone, dashboard, own_handlers, replay
from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.measurement import Bench, Measurement
from tests.benchmarks.peer import PEERS, Peer
from tests.benchmarks.record import write_record
from tests.benchmarks.report import Results, report
from tests.benchmarks.server import describe_server, server

MEASUREMENTS = {
    measurement.name: measurement
    for measurement in (
        *against_peers.MEASUREMENTS,
        *alone.MEASUREMENTS,
        *own_handlers.MEASUREMENTS,
        *dashboard.MEASUREMENTS,
        *replay.MEASUREMENTS,
    )
}


def main() -> int:
    """Run; the exit code is 0, or 1 if something broke."""
    options = _arguments()
    results = Results()
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder)) as url,
        redis.Redis.from_url(url) as client,
    ):
        bench = Bench(url, client, options.jobs, options.idle_seconds, options.letters)
        about_run, about_server = _describe(client, options), describe_server(client)
        try:
            _take_all(bench, options, results)
        except KeyboardInterrupt:
            results.broken.append("interrupted")
    _print(about_run + report(results, options.peers))
    measured = [peer for peer in options.peers if not peer.missing]
    _print("\n" + "; ".join(peer.version for peer in measured))
    for peer in options.peers:
        if peer.missing:
            _print(f"\n{peer.title} is left out: {peer.missing}")
    if options.json is not None:
        write_record(options.json, results, measured, about_server, options.jobs)
    for text in results.broken:
        _tell(f"broken: {text}")
    return 1 if results.broken else 0


def _take_all(bench: Bench, options: argparse.Namespace, results: Results) -> None:
    """Each measurement by all peers in turn, as many times over as there are runs."""
    for measurement in options.rows:
        for number in range(1 if measurement.once else options.runs):
            for peer in options.peers:
                if peer in measurement.peers and not peer.missing:
                    _tell(f"{measurement.name}, run {number + 1}: {peer.title}")
                    _take(bench, measurement, peer, results)


def _take(bench: Bench, measurement: Measurement, peer: Peer, results: Results) -> None:
    bench.client.flushall()
    try:
        taken = measurement.take(bench, peer)
    except BenchmarkError as error:
        results.broken.append(f"{measurement.name}: {error}")
        return
    for figure, value in zip(measurement.figures, taken, strict=True):
        results.add(figure, peer, value)
        _tell(f"    {figure.title}: {value:,.2f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    usual = ",".join(name for name, measurement in MEASUREMENTS.items() if not measurement.long)
    parser.add_argument(
        "--rows", type=_measurements, default=usual, help=f"all, or some of {', '.join(MEASUREMENTS)}"
    )
    parser.add_argument("--peers", type=_peers, default=",".join(PEERS), help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement; the median counts")
    parser.add_argument("--jobs", type=int, default=10_000, help="in one run of a throughput")
    parser.add_argument("--idle-seconds", type=float, default=60, help="for which an idle worker is watched")
    parser.add_argument("--letters", type=int, default=1_000_000, help="dead letters under the dashboard")
    parser.add_argument("--json", type=Path, help="file to write, to be compared with that of another run")
    return parser.parse_args()


def _measurements(text: str) -> list[Measurement]:
    return [MEASUREMENTS[name] for name in _some(text, MEASUREMENTS)]


def _peers(text: str) -> list[Peer]:
    return [PEERS[name] for name in _some(text, PEERS)]


def _some(text: str, known: Collection[str]) -> list[str]:
    names = list(known) if text == "all" else text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r}: use some of {', '.join(known)}")
    return names


def _describe(client: Any, options: argparse.Namespace) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {describe_server(client)} on loopback, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores; {options.jobs:,} jobs; "
        f"median of {options.runs} runs (lowest–highest).\n\n"
    )


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
