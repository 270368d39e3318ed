"""Checks whether the processes of a data directory live, or are ready.

A container's health check runs this every few seconds, so it imports next to nothing.  The imports of the
command line alone would take three times as long as all of this.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from app.address import Address
from app.environment import data_directory
from app.errors import AppError, exit_code_of
from app.running import running_processes
from storage.errors import ApplianceError
from tui.text.format import escape

ROUTES: Final = {"live": ("/livez", "alive"), "ready": ("/readyz", "ready")}
"""By question: the path, and the field of its answer."""
_TIMEOUT_SECONDS = 1.5
"""Timeout of all answers together: a probe takes less than two seconds."""
_MAX_ANSWER_BYTES = 65_536


class ProbeError(AppError):
    """The process does not answer, or not as ours does."""


def main(question: str) -> NoReturn:
    """Ask as the command ``probe`` does, without the command line, and exit."""
    try:
        check(question, find_addresses(question, None))
    except ApplianceError as error:
        sys.stderr.write(f"error: {escape(str(error))}\n")
        sys.exit(exit_code_of(error))
    sys.stdout.write(f"{question}\n")
    sys.exit(0)


def find_addresses(question: str, data_dir: Path | None) -> list[Address]:
    """Return where the processes of the data directory serve HTTP.  Raises AppError if none does."""
    directory = data_directory(data_dir)
    try:
        processes = running_processes(directory)
    except OSError as error:
        raise AppError(f"not {question}: {directory} cannot be read ({error.strerror})") from None
    if not processes:
        fix = "start it, or name its directory with --data-dir, or its address with --http"
        raise AppError(f"not {question}: no process runs in {directory}", fix=fix)
    addresses = [process.address for process in processes if process.address is not None]
    if not addresses:
        problem = f"not {question}: process {processes[0].pid} serves no HTTP"
        raise AppError(problem, fix="start it with --http HOST:PORT, of a port that is free")
    return addresses


def check(question: str, addresses: Sequence[Address]) -> None:
    """Raise AppError unless all addresses answer that they are live, or ready."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    for address in addresses:
        problem = _problem(question, address, max(0.01, deadline - time.monotonic()))
        if problem is not None:
            raise AppError(f"not {question}: {problem}")


def _problem(question: str, address: Address, timeout: float) -> str | None:
    """Return why the process at this address is not live, or not ready; None if it is."""
    path, field = ROUTES[question]
    try:
        answer = get_json(address, path, timeout=timeout)
    except ProbeError as error:
        return str(error)
    verdict, reasons = answer.get(field), answer.get("reasons")
    if not isinstance(verdict, bool) or not isinstance(reasons, list):
        return f"{address}: another program answers"
    return None if verdict else "; ".join(map(str, reasons)) or "it gives no reason"


def get_json(address: Address, path: str, *, timeout: float) -> dict[str, Any]:
    """Return the object with which ``address`` answers, within ``timeout`` seconds.  Raises ProbeError."""
    try:
        answer = _get(address.for_clients, path, time.monotonic() + timeout)
    except TimeoutError:
        raise ProbeError(f"{address} does not answer within {timeout:.2g} s") from None
    except OSError as error:
        raise ProbeError(f"{address} does not answer ({error.strerror or error})") from None
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        document = json.loads(body) if head.startswith(b"HTTP/1.1 ") else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ProbeError(f"{address}: another program answers")
    return document


def _get(address: Address, path: str, deadline: float) -> bytes:
    """Return the answer up to its end.  Raises OSError; TimeoutError after the deadline."""
    with socket.create_connection((address.host, address.port), _seconds_left(deadline)) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while len(answer) < _MAX_ANSWER_BYTES:
            connection.settimeout(_seconds_left(deadline))
            chunk = connection.recv(_MAX_ANSWER_BYTES)
            if not chunk:
                break
            answer += chunk
        return answer


def _seconds_left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
