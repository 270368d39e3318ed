"""A run of the benchmark as a JSON file, and ``make bench-compare``, which puts two of them side by side."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.measurement import Figure
from tests.benchmarks.peer import OURS, Peer
from tests.benchmarks.report import Results
from tests.benchmarks.table import table


def write_record(file: Path, results: Results, peers: Sequence[Peer], server: str, jobs: int) -> None:
    """Write what was measured, by which versions and on which machine."""
    document = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
        },
        "server": server,
        "versions": {peer.name: peer.version for peer in peers},
        "jobs": jobs,
        "rows": [_row(figure, row) for figure, row in results.values.items()],
        "broken": results.broken,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _row(figure: Figure, values: Mapping[Peer, Sequence[float]]) -> dict[str, Any]:
    return {
        "title": figure.title,
        "goal": figure.goal,
        "digits": figure.digits,
        "peers": {
            peer.name: {"median": median(taken), "lowest": min(taken), "highest": max(taken), "runs": taken}
            for peer, taken in values.items()
        },
    }


def _processor() -> str:
    """The model's name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Ours in both runs, and our multiple of each peer, which alone can be compared between two machines."""
    before = {row["title"]: row for row in old["rows"]}
    shared = [(before[row["title"]], row) for row in new["rows"] if row["title"] in before]
    peers = [name for name in new["versions"] if name != OURS.name and name in old["versions"]]
    head = ["", "ours before", "now", "now / before", *(f"ours / {name}: before, now" for name in peers)]
    rows = [_comparison_lines(was, now, peers) for was, now in shared if OURS.name in was["peers"]]
    about = (f"before: {_describe(old)}", f"now: {_describe(new)}")
    return "\n".join(about) + "\n\n" + table(head, rows)


def _comparison_lines(was: Mapping[str, Any], now: Mapping[str, Any], peers: Iterable[str]) -> list[str]:
    ours, digits = [row["peers"].get(OURS.name, {}).get("median") for row in (was, now)], now["digits"]
    figures = ["" if figure is None else f"{figure:,.{digits}f}" for figure in ours]
    change = f"{ours[1] / ours[0]:.2f}" if ours[0] and ours[1] is not None else ""
    return [now["title"], *figures, change, *(_ratios(was, now, peer) for peer in peers)]


def _ratios(was: Mapping[str, Any], now: Mapping[str, Any], peer: str) -> str:
    return ", ".join(_ratio(row, peer) for row in (was, now)).strip(", ")


def _ratio(row: Mapping[str, Any], peer: str) -> str:
    ours, theirs = (row["peers"].get(name, {}).get("median") for name in (OURS.name, peer))
    return f"{ours / theirs:.2f}" if ours is not None and theirs else ""


def _describe(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    versions = "; ".join(record["versions"].values())
    return f"{record['date']}, {record['server']}, {machine['cores']} × {machine['processor']}; {versions}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = (json.loads(file.read_text()) for file in (options.old, options.new))
    sys.stdout.write(compare(old, new) + "\n")


if __name__ == "__main__":
    main()
