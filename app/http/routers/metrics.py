"""The figures of a snapshot for Prometheus."""

from __future__ import annotations

from fastapi import Request, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

from app.http.dependencies import State
from app.http.routing import open_router
from app.logs import dropped_lines
from app.prometheus.definitions import Facts
from app.prometheus.exposition import Encoder, exposition

router = open_router("metrics")


_EXAMPLE = """\
# HELP couturecast_depth Jobs that are ready to run.
# TYPE couturecast_depth gauge
couturecast_depth{queue="color-extraction"} 12.0
"""


class TextFormat(Response):
    """An answer in Prometheus' text format."""

    media_type = CONTENT_TYPE_PLAIN_0_0_4


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_description="All that is known: an unknown figure has no line.",
    response_class=TextFormat,
    responses={200: {"content": {CONTENT_TYPE_PLAIN_0_0_4: {"example": _EXAMPLE}}}},
)
async def metrics(state: State, request: Request) -> Response:
    """All names begin with `couturecast_`; each has its meaning in its HELP line.

    In OpenMetrics if the `Accept` header asks for it, else in Prometheus' text format.
    """
    try:
        snapshot = await state.snapshot()
    except TimeoutError:
        snapshot = None
    facts = Facts(
        snapshot,
        {"version": state.version, "release": state.release},
        state.operations.cache.counts,
        dropped_lines(),
        state.operations.thresholds,
        state.operations.notification_counts,
    )
    encode, content_type = _encoder(request.headers.get("accept", ""))
    return TextFormat(exposition(facts, encode=encode), media_type=content_type)


def _encoder(accept: str) -> tuple[Encoder, str]:
    try:
        return choose_encoder(accept)
    except ValueError:  # a version that is not one
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
