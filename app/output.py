"""What commands write: text for people, JSON for programs, notes on stderr; and what they ask."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import typer

from app.errors import AppError, OutputError, UsageError
from tui.text.format import escape, escape_lines


def text(lines: str) -> None:
    """Lines on stdout.  They may come from jobs: control characters are shown, not sent to the terminal."""
    piece(f"{escape_lines(lines)}\n")


def document(value: Any) -> None:
    """One JSON document on stdout; times in ISO 8601."""
    piece(f"{json.dumps(value, indent=2, default=_plain)}\n")


def piece(written: str) -> None:
    """As it is, on stdout, at once.  Raises OutputError where that cannot be written."""
    try:
        sys.stdout.write(written)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from None


@contextmanager
def receipt() -> Iterator[None]:
    """Print what an act has done.  Where that cannot be written, the act is done all the same.

    So a warning is all that follows: a script that saw a failure would act again.
    """
    try:
        yield
    except (OutputError, BrokenPipeError) as error:
        discard(sys.stdout)
        cause = str(error) if isinstance(error, OutputError) else f"standard output: {error.strerror}"
        note(f"warning: it is done, although its output cannot be written ({cause})")


def note(lines: str) -> None:
    """Lines on stderr: what is said beside the output.  Where nobody can read them, nothing else changes."""
    try:
        sys.stderr.write(f"{escape_lines(lines)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)


def write_within(seconds: float, stream: TextIO, written: str) -> None:
    """Write, and wait no longer than that for a reader who does not read."""
    try:
        descriptor = stream.fileno()
    except OSError:  # it is in memory
        stream.write(written)
        return
    encoded = written.encode(stream.encoding, "backslashreplace")

    def write() -> None:  # not to the stream, whose lock would be waited for at the end of the process
        with suppress(OSError):
            os.write(descriptor, encoded)

    writing = threading.Thread(target=write, name=f"writes to {stream.name}", daemon=True)
    writing.start()
    writing.join(seconds)


def discard(stream: TextIO) -> None:
    """Drop what is written to ``stream`` from now on, and what could not be written.

    Otherwise that would be tried once more at exit, with a traceback or another exit code.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def into(file: Path, *, force: bool) -> Iterator[TextIO]:
    """Write a file, whole or not at all, with mode 0600; one that is there is replaced only with ``force``.

    Raises UsageError, AppError.
    """
    if force and file.exists() and not file.is_file():
        raise UsageError(f"--output: {file} is no file that could be replaced")
    try:
        if not force:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with _replaced(file.resolve()) as written:
                yield written
        except BaseException:
            if not force:
                file.unlink()
            raise
    except FileExistsError:
        raise UsageError(f"--output: {file} is there already: name another file, or give --force") from None
    except OSError as error:
        raise AppError(f"--output: {file}: {error.strerror or error}") from None


@contextmanager
def _replaced(file: Path) -> Iterator[TextIO]:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:100]}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as written:
            yield written
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def confirmed(question: str) -> bool:
    """Ask on stderr; no answer is no.  Raises typer.Abort at ctrl-C, AppError where nobody can be asked."""
    # The event loop's own handler would wait until the question is answered.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(escape(question), err=True)
    except OSError as error:
        raise AppError(f"nobody can be asked ({error.strerror}): give --yes") from None
    finally:
        signal.signal(signal.SIGINT, before)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
