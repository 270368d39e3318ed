"""Two runs of the benchmark, side by side."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.measurement import Figure
from tests.benchmarks.peer import OURS, SAQ
from tests.benchmarks.record import compare, write_record
from tests.benchmarks.report import Results


def test_two_records_are_compared_by_row_and_by_peer(tmp_path: Path) -> None:
    rows = Figure("no-op jobs/s", "1.4 × BullMQ"), Figure("only in the first")
    for name, ours, theirs, figures in (("old", 100.0, 50.0, rows), ("new", 150.0, 50.0, rows[:1])):
        results = Results()
        for figure in figures:
            for value in (ours - 1, ours, ours + 1):
                results.add(figure, OURS, value)
            results.add(figure, SAQ, theirs)
        write_record(tmp_path / "folder" / f"{name}.json", results, [OURS, SAQ], "Valkey 9.1.2", 10_000)
    old, new = (json.loads((tmp_path / "folder" / f"{name}.json").read_text()) for name in ("old", "new"))
    assert old["rows"][0]["peers"]["ours"] == {
        "median": 100.0,
        "lowest": 99.0,
        "highest": 101.0,
        "runs": [99.0, 100.0, 101.0],
    }
    assert old["versions"]["saq"].startswith("saq ")
    *_, row = compare(old, new).splitlines()
    assert row == "| no-op jobs/s | 100 | 150 | 1.50 | 2.00, 3.00 |"
