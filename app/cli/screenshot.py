"""``screenshot``: a picture of a view of the dashboard, without a terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import output
from app.cli.completion import VIEWS, complete_queue, complete_view
from app.cli.files import private_file
from app.cli.options import DataDir
from app.cli.runner import run_operation
from app.errors import AppError, UsageError
from tui.text.format import SMALLEST_TERMINAL, escape

if TYPE_CHECKING:
    from tui.app import Dashboard
    from workers.operations.operations import Operations

commands = typer.Typer(rich_markup_mode=None)

_LARGEST = (500, 200)
"""Columns and rows; a picture of more takes minutes to draw."""
_FILE_FIELD = "FILE"


@commands.command()
def screenshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An SVG file; - is standard output.")],
    view: Annotated[
        str,
        typer.Option("--view", help="Its key or its name: 1 or overview.", autocompletion=complete_view),
    ] = "overview",
    queue: Annotated[
        str | None,
        typer.Option("--queue", help="The page of a queue instead.", autocompletion=complete_queue),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", help="Columns and rows of the terminal.", metavar="WxH")
    ] = "160x48",
    theme: Annotated[str, typer.Option("--theme", help="As the palette names it.")] = "couturecast",
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    data_dir: DataDir = None,
) -> None:
    """A picture of a view as it is now, as SVG, without a terminal.

    FILE can be read by its owner only: it may show payloads.
    """
    if str(file) != "-" and file.suffix.lower() != ".svg":
        raise UsageError(
            f"{file}: only SVG can be written", field=_FILE_FIELD, fix="name a file that ends in .svg"
        )
    name, columns_and_rows = _parse_view(view), _parse_size(size)

    async def run(operations: Operations) -> int:
        picture = await _draw(operations, name, queue, columns_and_rows, theme)
        if str(file) == "-":
            output.write(picture)
            return 0
        with private_file(file, force=force, field=_FILE_FIELD) as stream:
            stream.write(picture)
        output.print_result(f"{file}: {escape(queue or name)}, {size}", {}, as_json=False)
        return 0

    run_operation(data_dir, run, database="optional")


def _parse_view(text: str) -> str:
    by_key = {str(key): name for key, name in enumerate(VIEWS, 1)}
    name = by_key.get(text, text)
    if name not in VIEWS:
        names = ", ".join(f"{key} {name}" for key, name in by_key.items())
        raise UsageError(f"unknown view {text!r}", field="--view", fix=f"use one of {names}")
    return name


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
    columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    (min_columns, min_rows), (max_columns, max_rows) = SMALLEST_TERMINAL, _LARGEST
    if not (min_columns <= columns <= max_columns and min_rows <= rows <= max_rows):
        raise UsageError(
            f"invalid size {text!r}",
            field="--size",
            fix=f"use columns x rows from {min_columns}x{min_rows} to {max_columns}x{max_rows}, as in 160x48",
        )
    return columns, rows


async def _draw(
    operations: Operations, view: str, queue: str | None, size: tuple[int, int], theme: str
) -> str:
    from tui.app import Dashboard
    from tui.screenshot import ScreenshotTimeoutError, take_screenshot

    if queue is not None:
        operations.queues.policy(queue)  # it must exist
    dashboard = Dashboard(operations)
    _check_theme(dashboard, theme)
    try:
        return await take_screenshot(dashboard, size, view=view, queue=queue, theme=theme)
    except ScreenshotTimeoutError:
        problem = dashboard.session.snapshot_error or "it did not get its data in time"
        raise AppError(f"no picture of {queue or view}: {problem}", fix="try again, or see doctor") from None


def _check_theme(dashboard: Dashboard, theme: str) -> None:
    """Raises UsageError."""
    if theme not in dashboard.available_themes:
        names = ", ".join(sorted(dashboard.available_themes))
        raise UsageError(f"unknown theme {theme!r}", field="--theme", fix=f"use one of {names}")
