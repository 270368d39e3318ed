"""A running program keeps to its own description, whatever is sent: schemathesis, with all of its checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from tests.integration.app.served import Served, served

TOOL = Path(sys.executable).with_name("st")
EXAMPLES = 60


def kept(each: Served, directory: Path, *arguments: str) -> None:
    """The description is read from the program itself; nothing is left to chance."""
    options = ["--checks=all", "--generation-deterministic", f"--max-examples={EXAMPLES}", "--no-color"]
    options += ["--generation-allow-x00=false", f"--header=Authorization: Bearer {each.token}", "--no-shrink"]
    done = subprocess.run(
        [str(TOOL), "run", f"{each.url}/openapi.json", *options, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a defect" not in each.log
    assert "Traceback" not in each.log


def test_all_routes_in_read_only_mode(tmp_path: Path) -> None:
    with served(tmp_path, COUTURECAST_READ_ONLY="1") as each:
        kept(each, tmp_path)
        with each.client() as client:
            assert client.get("/readyz").status_code == 200


def test_jobs_are_enqueued_as_described(tmp_path: Path) -> None:
    with served(tmp_path) as each:
        kept(each, tmp_path, "--include-path=/api/v1/queues/{queue}/jobs")
        with each.client() as client:
            assert completed(client) > 100


def completed(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("couturecast_jobs_completed_total{")
    )
