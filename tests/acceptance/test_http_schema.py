"""A running program keeps to its own description, whatever is sent: schemathesis, with all of its checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.acceptance.served import QUEUE, Served, served

TOOL = Path(sys.executable).with_name("st")
EXAMPLES = 15
RUN_SECONDS = 280  # s: a tenth of it on an idle machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOOKS = """
import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    if not isinstance(value, list):
        return b"[not lines"
    return "".join(json.dumps(item) + "\\n" for item in value).encode()
"""
CONFIGURATION = """
hooks = "hooks"

[[operations]]
include-path = "/api/v1/admin/failed-jobs"
# A cursor is whatever the page before says, which no schema can tell.
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path = "/api/v1/events"
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path = "/api/v1/alerts/history"
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path = "/api/v1/jobs"
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]

[[operations]]
include-path = "/api/v1/cache/entries"
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]
"""


def run_schemathesis(running: Served, directory: Path, *arguments: str) -> None:
    """The description is read from the program itself; nothing is left to chance."""
    (directory / "schemathesis.toml").write_text(CONFIGURATION)
    (directory / "hooks.py").write_text(HOOKS)
    options = ["--checks=all", "--generation-deterministic", f"--max-examples={EXAMPLES}", "--no-color"]
    options += [
        "--generation-allow-x00=false",
        f"--header=Authorization: Bearer {running.token}",
        "--no-shrink",
    ]
    done = subprocess.run(
        [str(TOOL), "run", f"{running.url}/openapi.json", *options, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a defect" not in running.log
    assert "Traceback" not in running.log


def test_all_routes_answer_as_described_in_read_only_mode(tmp_path: Path) -> None:
    with served(tmp_path, COUTURECAST_READ_ONLY="1") as running:
        run_schemathesis(running, tmp_path, "--phases=coverage,fuzzing")
        with running.client() as client:
            assert client.get("/readyz").status_code == 200


def test_actions_answer_as_described(tmp_path: Path) -> None:
    none = {"COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none"}
    with served(tmp_path, handler="picky", **none) as running, running.client() as client:
        jobs = [{"data": {"fails": f"of number {number}"}} for number in range(100)]
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json=jobs).status_code == 202
        # A drain would end the program, and so many jobs make a queue unhealthy.
        run_schemathesis(
            running,
            tmp_path,
            "--exclude-path=/api/v1/admin/drain",
            "--exclude-path=/api/v1/workers/drain",
            "--exclude-path=/api/v1/workers/{worker}/drain",
            "--exclude-path=/api/v1/health/queues",
        )
        assert completed(client) > 20


def completed(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("couturecast_jobs_completed_total{")
    )
