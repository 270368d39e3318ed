"""Tracing is off unless an endpoint is configured and the extra is installed."""

from __future__ import annotations

import subprocess
import sys

WITHOUT_ENDPOINT = """
import sys
from app.process.tracing import start_tracing
assert start_tracing({}, "1") is None
assert start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "1") is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
WITHOUT_EXTRA = """
import sys
sys.modules["opentelemetry.sdk"] = None
from app.process.tracing import start_tracing
assert start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "1") is None
"""


def output(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    assert output(WITHOUT_ENDPOINT).strip() == "[]"


def test_without_the_extra_a_warning_says_what_to_install() -> None:
    assert "no tracing: install couturecast-tui[otel]" in output(WITHOUT_EXTRA)
