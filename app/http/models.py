"""The common parts of the models of requests."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor

from workers.engine.policy import DEFAULT_POLICIES

MAX_ID = 2**53 - 1
"""Largest id in a request: every program reads a JSON number exactly up to there."""


class RequestBody(BaseModel):
    """Base of all bodies: unknown fields are refused, and text is not a number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


def example(**fields: Any) -> ConfigDict:
    """Return the configuration of a model that shows these fields as an example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def _check_queue(queue: str) -> str:
    if queue not in DEFAULT_POLICIES:
        raise ValueError(f"unknown queue: use one of {', '.join(DEFAULT_POLICIES)}")
    return queue


QueueName = Annotated[
    str, AfterValidator(_check_queue), WithJsonSchema({"type": "string", "enum": list(DEFAULT_POLICIES)})
]
PathQueue = Annotated[QueueName, Path(description="Name of a queue.", examples=["color-extraction"])]
"""For ``{queue}`` in a path."""

IntegralFloat = BeforeValidator(
    lambda value: int(value) if type(value) is float and value.is_integer() else value
)
"""Beside the type of a whole number, after its limits: JSON may write it as 1.0, too."""

Reason = Annotated[str, Field(max_length=500, description="Why, for the record.")]


class _IdConvertor(Convertor[int]):
    """An id in a path: digits only, so that each has one spelling, and `groups` is not an id."""

    regex = "[1-9][0-9]{0,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _IdConvertor())
Reveal = Annotated[
    bool, Query(description="Show secrets, too, whose fields COUTURECAST_SECRET_FIELDS names.")
]
PathId = Annotated[int, Path(ge=1, le=MAX_ID, description="As the lists have it.", examples=[17])]
"""For ``{id:id}`` in a path."""
