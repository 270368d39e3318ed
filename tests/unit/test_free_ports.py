"""The ports of the servers that tests start, stop, and start again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers import free_port

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""The ports that the kernel chooses from for whoever asks for any."""


def test_no_other_process_gets_a_free_port_by_chance() -> None:
    first, last = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (49152, 65535)
    if first < 28_000:
        pytest.skip("this kernel chooses from all ports")
    ports = [free_port() for _ in range(500)]
    assert not [port for port in ports if first <= port <= last]
    assert len(set(ports)) == len(ports)
