"""A Prometheus that watches the processes of a test."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.support.prometheus import need_program
from tests.support.servers import free_port

_QUEUE = "color-extraction"

Alerts = set[tuple[str, str]]
"""Name and queue of those that fire."""


class Prometheus:
    """A Prometheus that scrapes and evaluates every second."""

    def __init__(self, directory: Path, rules: str, targets: list[str]) -> None:
        directory.mkdir()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "couturecast", "static_configs": [{"targets": targets}]}],
        }
        (directory / "rules.yml").write_text(rules)
        (directory / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self._log = (directory / "log").open("wb")
        self.process = subprocess.Popen(
            [
                need_program("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def get(self, path: str, **parameters: str) -> Any:
        """Return the answer of the HTTP API.  Fails if that is an error."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """The series of an instant query."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        """Whether it has scraped both processes with the figures of their queues."""
        with contextlib.suppress(httpx.TransportError):
            if self._client.get("/-/ready").status_code == 200:
                return len(self.query(f'couturecast_queue_depth{{queue="{_QUEUE}"}}')) == 2
        return False

    def firing(self) -> Alerts:
        """The alerts that fire."""
        return {
            (alert["labels"]["alert"], alert["labels"].get("queue", ""))
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._log.close()
        self._client.close()
