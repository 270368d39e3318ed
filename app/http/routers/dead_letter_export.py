"""Documents of dead letters, sent while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, get_args

import structlog
from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from app.http.dependencies import ActorOperations
from app.http.filters import LetterQuery
from app.http.routing import strict_router
from storage.redis.refusals import reason
from tui.text.export import escape_piece
from workers.operations.operations import OPERATION_ERRORS, ExportFormat

log = structlog.get_logger(__name__)

router = strict_router("dead letters", "/api/v1/admin/failed-jobs")

_EXPORT_TYPES: dict[str, tuple[str, str]] = {
    "jsonl": ("application/jsonl", "jsonl"),
    "csv": ("text/csv", "csv"),
    "markdown": ("text/markdown", "md"),
}
"""Media type and file extension of each format."""
_EXAMPLES: dict[str, str] = {
    "jsonl": '{"id": 17, "queue_name": "color-extraction", "job_id": "dress-17", "state": "dead"}\n',
    "csv": "id,queue_name,job_id,state\r\n17,color-extraction,dress-17,dead\r\n",
    "markdown": "# Dead letters: queue:color-extraction\n",
}
"""The beginning of a document of each format, with some of its columns."""


class ExportQuery(LetterQuery):
    """Selects the letters of a document."""

    format: ExportFormat = Field(
        "jsonl",
        description="jsonl: for programs. markdown: for people. csv: for spreadsheets; ' precedes a text "
        "that begins with = + - @ tab or CR, since they run it as a formula.",
    )


class ExportResponse(StreamingResponse):
    """A document that is sent while it is made; it ends the connection if that fails half-way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the document."""
        try:
            await super().__call__(scope, receive, send)
        except OPERATION_ERRORS as error:
            log.warning("an export ended early", error=reason(error))


@router.get(
    "/export",
    response_class=ExportResponse,
    summary="A document of dead letters",
    responses={
        200: {
            "description": "The document; a connection that ends without its last chunk has lost the rest.",
            "content": {
                _EXPORT_TYPES[name][0]: {"schema": {"type": "string"}, "example": _EXAMPLES[name]}
                for name in get_args(ExportFormat)
            },
        },
    },
)
async def export_dead_letters(
    operations: ActorOperations, query: Annotated[ExportQuery, Query()]
) -> Response:
    """All letters of the filter, sent while they are read."""
    pieces = operations.dead_letters.export(query.to_filter(), query.format)
    first = await anext(pieces, "")  # errors that come before it still have a status
    media_type, extension = _EXPORT_TYPES[query.format]
    return ExportResponse(
        _document(first, pieces, query.format),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="dead-letters.{extension}"'},
    )


async def _document(first: str, rest: AsyncIterator[str], form: ExportFormat) -> AsyncIterator[str]:
    yield escape_piece(first, form)
    async for piece in rest:
        yield escape_piece(piece, form)
        await asyncio.sleep(0)  # jobs share the loop
