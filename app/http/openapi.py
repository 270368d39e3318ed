"""The description of the routes: OpenAPI 3.1, made from what they are served by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.http.authentication import OPERATOR_PARAMETER
from app.http.problems import MEDIA_TYPE, Problem
from app.http.route import JSON, Answer, Route

_REF = "#/components/schemas/{model}"
_SAID = {
    401: "No token, or a wrong one.",
    403: "Read-only: nothing may be changed.",
    404: "There is no such thing.",
    409: "Not in a state that allows it.",
    503: "Redis or the database does not answer.",
}
Mode = Literal["validation", "serialization"]


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document, as JSON values."""
    models: list[tuple[type[BaseModel], Mode]] = [(Problem, "serialization")]
    for route in routes:
        models += [(each.model, "serialization") for each in route.answers.values() if each.model]
        models += [(each, "validation") for each in (route.path_model, route.query, route.body) if each]
    refs, definitions = models_json_schema(models, ref_template=_REF)
    schemas = definitions.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _Operation(route, refs, schemas).described()
    for model in {each for route in routes for each in (route.path_model, route.query) if each}:
        schemas.pop(model.__name__, None)  # parameters, which stand at their operations
    return {
        "openapi": "3.1.0",
        "info": {"title": "couturecast-tui", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Operation:
    def __init__(self, route: Route, refs: Any, schemas: dict[str, Any]) -> None:
        self._route = route
        self._refs = refs
        self._schemas = schemas

    def described(self) -> dict[str, Any]:
        route = self._route
        parameters = [*self._parameters("path", route.path_model), *self._parameters("query", route.query)]
        if not route.open:
            parameters.append(OPERATOR_PARAMETER)
        found: dict[str, Any] = {
            "operationId": _operation_id(route),
            "summary": route.summary,
            "responses": self._responses(),
        }
        if parameters:
            found["parameters"] = parameters
        if route.body is not None:
            found["requestBody"] = {
                "required": not route.body_optional,
                "content": {JSON: {"schema": self._body()}},
            }
        if not route.open:
            found["security"] = [{"token": []}]
        return found

    def _parameters(self, place: str, model: type[BaseModel] | None) -> list[dict[str, Any]]:
        if model is None:
            return []
        schema = self._schemas[self._refs[(model, "validation")]["$ref"].rpartition("/")[2]]
        return [
            _parameter(place, name, dict(about), required=name in schema.get("required", ()))
            for name, about in schema["properties"].items()
        ]

    def _body(self) -> dict[str, Any]:
        one = self._refs[(self._route.body, "validation")]
        if not self._route.many:
            return dict(one)
        many = {"type": "array", "items": one, "minItems": 1, "maxItems": self._route.many}
        return {"oneOf": [one, many]}

    def _responses(self) -> dict[str, Any]:
        found = {str(status): self._answer(answer) for status, answer in self._route.answers.items()}
        for status in self._route.problem_statuses:
            found.setdefault(str(status), self._problem(status))
        return dict(sorted(found.items()))

    def _answer(self, answer: Answer) -> dict[str, Any]:
        if answer.model is not None:
            schema = self._refs[(answer.model, "serialization")]
        else:
            schema = {"type": "object" if answer.media_type == JSON else "string"}
        return {"description": answer.description, "content": {answer.media_type: {"schema": schema}}}

    def _problem(self, status: int) -> dict[str, Any]:
        schema = self._refs[(Problem, "serialization")]
        found: dict[str, Any] = {
            "description": _SAID.get(status, f"{HTTPStatus(status).phrase}."),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        if status == 401:
            found["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
        return found


def _operation_id(route: Route) -> str:
    return "_".join([route.method.lower(), *re.findall(r"[a-z0-9]+", route.path.removeprefix("/api/v1"))])


def _parameter(place: str, name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A parameter that may be left out is never null."""
    schema.pop("title", None)
    choices = [each for each in schema.pop("anyOf", ()) if each.get("type") != "null"]
    if choices:
        schema |= choices[0] if len(choices) == 1 else {"anyOf": choices}
        schema.pop("default", None)
    text = schema.pop("description", None)
    found = {"name": name, "in": place, "required": required, "schema": schema}
    return found | ({"description": text} if text else {})
