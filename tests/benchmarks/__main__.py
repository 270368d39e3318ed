"""``make bench``: take the measurements in turn, print the table.  No figure makes it fail; lost jobs do."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from tests.benchmarks import against_peers, alone
from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.measurement import Bench, Figure, Measurement
from tests.benchmarks.peer import PEERS, Peer
from tests.benchmarks.report import Row, report
from tests.benchmarks.server import about, server

MEASUREMENTS = {each.name: each for each in (*against_peers.MEASUREMENTS, *alone.MEASUREMENTS)}


def main() -> int:
    """The exit code: 0, or 1 where something broke."""
    options = _arguments()
    for peer in options.peers:
        if peer.missing:
            _tell(f"{peer.title} is left out: {peer.missing}")
    peers = [peer for peer in options.peers if not peer.missing]
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder)) as url,
        redis.Redis.from_url(url) as client,
    ):
        _print(_about(client, options))
        bench = Bench(url, client, Path(folder), options.jobs, options.idle_seconds)
        try:
            rows = _take_all(bench, options.rows, peers, options.runs)
        except BenchmarkError as error:
            _tell(f"broken: {error}")
            return 1
    _print(report(rows, peers))
    return 0


def _take_all(
    bench: Bench, measurements: Sequence[Measurement], peers: Sequence[Peer], runs: int
) -> list[Row]:
    """Each measurement by all peers in turn, as many times over as there are runs."""
    rows = []
    for measurement in measurements:
        values: dict[Figure, dict[Peer, list[float]]] = defaultdict(lambda: defaultdict(list))
        for number in range(1 if measurement.once else runs):
            for peer in (each for each in peers if each in measurement.peers):
                bench.client.flushall()
                taken = measurement.take(bench, peer)
                for figure, value in zip(measurement.figures, taken, strict=True):
                    values[figure][peer].append(value)
                    _tell(f"{measurement.name} run {number + 1} {peer.title}: {figure.title}: {value:,.2f}")
        rows += [Row(figure, values[figure]) for figure in measurement.figures if values[figure]]
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    usual = ",".join(name for name, each in MEASUREMENTS.items() if not each.long)
    parser.add_argument(
        "--rows", type=_measurements, default=usual, help=f"all, or some of {', '.join(MEASUREMENTS)}"
    )
    parser.add_argument("--peers", type=_peers, default=",".join(PEERS), help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement; the median counts")
    parser.add_argument("--jobs", type=int, default=10_000, help="in one run of a throughput")
    parser.add_argument("--idle-seconds", type=float, default=60, help="for which an idle worker is watched")
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


def _about(client: Any, options: argparse.Namespace) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {about(client)} on loopback, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores; {options.jobs:,} jobs; median of {options.runs} runs (lowest–highest).\n"
    )


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
