"""``make bench-scaling``: measure on a server of our own, print Markdown tables."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import redis
import structlog

from tests.benchmarks.scaling.jobs import cost_of_jobs, sizes
from tests.benchmarks.scaling.processes import cost_of_processes
from tests.benchmarks.server import describe_server, server

_PARTS = ("jobs", "sizes", "processes")


def main() -> None:
    """Print one part after the other."""
    options = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder)) as url,
        redis.Redis.from_url(url) as client,
    ):
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        _print(f"{datetime.now(UTC):%Y-%m-%d}, {describe_server(client)} on loopback, {machine}")
        if "jobs" in options.parts:
            _print(cost_of_jobs(url, client, options.jobs))
        if "sizes" in options.parts:
            _print(sizes(url, client, options.jobs))
        if "processes" in options.parts:
            _print(cost_of_processes(url, client, options.processes, options.seconds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-scaling", description=__doc__)
    parser.add_argument("--parts", type=_parts, default=_PARTS, help=f"some of {', '.join(_PARTS)}")
    parser.add_argument("--jobs", type=int, default=100_000, help="that are enqueued and run")
    parser.add_argument("--processes", type=_numbers, default=[1, 5, 50, 500], help="for instance 5,50")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement of processes")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if not set(parts) <= set(_PARTS):
        raise argparse.ArgumentTypeError(f"{text!r}: use some of {', '.join(_PARTS)}")
    return parts


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _print(text: str) -> None:
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
