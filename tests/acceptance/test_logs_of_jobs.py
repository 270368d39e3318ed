"""Log lines of handlers: in the log, with their dead letters, and over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.served import QUEUE, assert_problem, served
from tests.support.waiting import until

HANDLERS = """
import asyncio
import logging


async def work(ctx, fails=False):
    logging.getLogger("shop").warning("reads the picture, token \\x1b[31m%s", "red")
    if fails:
        raise ValueError("no such picture")
    await asyncio.sleep(60)
"""


def environment(tmp_path: Path, run: str) -> dict[str, str]:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "shop.py").write_text(HANDLERS)
    return {
        "PYTHONPATH": str(tmp_path / "modules"),
        "COUTURECAST_HANDLERS": f"{QUEUE}=shop:work",
        "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
        "COUTURECAST_COLOR_EXTRACTION_RUN": run,
    }


@pytest.mark.parametrize("run", ["inline", "process"])
def test_the_lines_of_a_failed_attempt_are_shown_with_its_letter(tmp_path: Path, run: str) -> None:
    with served(tmp_path, **environment(tmp_path, run)) as running, running.client() as client:
        job = {"data": {"fails": True}, "key": "dress-17"}
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json=job).status_code == 202
        until(lambda: bool(client.get("/api/v1/admin/failed-jobs").json()["items"]))
        (listed,) = client.get("/api/v1/admin/failed-jobs").json()["items"]
        letter = client.get(f"/api/v1/admin/failed-jobs/{listed['id']}").json()
        (line,) = letter["attempt_errors"][0]["log"]
        assert line.endswith(" warning reads the picture, token \x1b[31mred")
        shown = running.program.run("failed-jobs", "show", str(listed["id"]))
        assert "it logged\n" in shown.out
        assert "warning reads the picture, token" in shown.out
        assert "\x1b" not in shown.out

        logged = next(json.loads(text) for text in running.log.splitlines() if "reads the picture" in text)
        assert {"queue": QUEUE, "job": "dress-17", "attempt": 1}.items() <= logged.items()
        assert logged["worker"] == running.event("takes jobs")["worker"]
        assert logged["release"]


@pytest.mark.parametrize("run", ["inline", "process"])
def test_a_process_has_its_newest_lines_and_those_of_a_job(tmp_path: Path, run: str) -> None:
    with served(tmp_path, **environment(tmp_path, run)) as running, running.client() as client:
        worker = running.event("takes jobs")["worker"]
        path = f"/api/v1/workers/{worker}/logs"
        assert client.post(f"/api/v1/queues/{QUEUE}/jobs", json={"data": {}, "key": "a"}).status_code == 202
        until(lambda: bool(client.get(path, params={"job": "a"}).json()["items"]))
        (line,) = client.get(path, params={"job": "a", "queue": QUEUE}).json()["items"]
        assert (line["level"], line["queue"], line["job"], line["attempt"]) == ("warning", QUEUE, "a", 1)
        assert line["text"].startswith("reads the picture")
        texts = [line["text"] for line in client.get(path).json()["items"]]
        assert any(text.startswith("takes jobs") for text in texts)
        assert len(client.get(path, params={"limit": 1}).json()["items"]) == 1
        command = running.program.run
        shown = command("workers", "logs", worker[:8], "--job", "a").out
        assert shown.count("\n") == 1
        assert f"warning  {QUEUE} a  reads the picture" in shown
        assert "\x1b" not in shown
        (same,) = command("workers", "logs", worker, "--queue", QUEUE, "--limit", "1", "--json").json["items"]
        assert same["job"] == "a"
        assert command("workers", "logs", "another").code == 1
        other = client.get("/api/v1/workers/another/logs")
        assert_problem(other, 404, "no worker 'another'")
        running.process.kill()
