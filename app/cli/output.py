"""The output of commands: text for people, JSON for programs, notes on stderr; and their questions."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer

from app.errors import AppError, OutputError
from app.streams import silence
from tui.text.format import escape, escape_lines


def print_text(lines: str) -> None:
    """Print lines on stdout.  Control characters, which may come from jobs, are escaped."""
    write(f"{escape_lines(lines)}\n")


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; times are in ISO 8601."""
    write(f"{json.dumps(value, indent=2, default=_to_text)}\n")


def print_json_line(value: Any) -> None:
    """Print one JSON document as one line on stdout, for a command that prints more and more of them."""
    write(f"{json.dumps(value, default=_to_text)}\n")


def print_note(lines: str) -> None:
    """Print lines on stderr.  If that fails, the command continues."""
    try:
        sys.stderr.write(f"{escape_lines(lines)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)


def page(items: Sequence[Any], following: str | None) -> dict[str, Any]:
    """Return one page of a list as a document; ``following`` is the cursor of the page after it."""
    return {"items": [asdict(item) for item in items], "next": following}


def print_page_note(following: str | None) -> None:
    """Name the cursor of the page after this one, if there is one."""
    if following is not None:
        print_note(f"more: --cursor {following}")


def print_result(text: str, document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what was changed.

    If stdout cannot be written, warn only: the change is made, and a script would repeat it after a failure.
    """
    try:
        if as_json:
            print_json(document)
        else:
            print_text(text)
    except (OutputError, BrokenPipeError) as error:
        silence(sys.stdout)
        cause = str(error) if isinstance(error, OutputError) else f"standard output: {error.strerror}"
        print_note(f"warning: it is done, although its output cannot be written ({cause})")


def write(text: str) -> None:
    """Write to stdout at once, unescaped.  Raises OutputError, BrokenPipeError."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from None


def ask(question: str) -> bool:
    """Ask on stderr; no answer is no.  Raises typer.Abort at ctrl-C, AppError if there is no terminal."""
    # The event loop's own handler would wait until the question is answered.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(escape(question), err=True)
    except OSError as error:
        raise AppError(f"cannot ask for confirmation ({error.strerror})", fix="give --yes") from None
    finally:
        signal.signal(signal.SIGINT, before)


def _to_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
