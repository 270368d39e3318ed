"""The form of a payload: a field for each property of its JSON schema, and the values that were typed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workers.engine.json_input import parse_json
from workers.errors import InvalidJsonError

Kind = Literal["text", "number", "whole number", "choice", "json"]
_KINDS: Mapping[str, Kind] = {"string": "text", "number": "number", "integer": "whole number"}
_CHOICES_OF_BOOLEAN = ("true", "false")


@dataclass(frozen=True, slots=True)
class FormField:
    """One property of a payload."""

    name: str
    kind: Kind
    required: bool
    choices: tuple[str, ...] = ()
    """In the form in which they are typed: text as it is, all else as JSON."""
    help: str = ""
    """Its meaning, its limits and its default."""
    is_text: bool = False
    """Whether its choices are texts."""

    def parse(self, typed: str) -> Any:
        """Return the value of what was typed.  Raises ValueError, whose text has what to type."""
        if self.kind == "text" or (self.kind == "choice" and self.is_text):
            return typed
        try:
            value = parse_json(typed.strip())
        except InvalidJsonError as error:
            raise ValueError(str(error) if self.kind == "json" else f"use a {self.kind}") from None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.kind == "number" and not is_number:
            raise ValueError("use a number")
        if self.kind == "whole number" and not (is_number and isinstance(value, int)):
            raise ValueError("use a whole number")
        return value


def form_fields(schema: Mapping[str, Any]) -> list[FormField]:
    """Return the fields of a JSON schema as pydantic makes it, in its order."""
    required = set(schema.get("required", ()))
    return [
        _field(name, _resolve(own, schema), own, name in required)
        for name, own in schema.get("properties", {}).items()
    ]


def parse_form(
    fields: Sequence[FormField], typed: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the payload without empty fields, and the problem of each field that cannot be read."""
    payload: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields:
        text = typed.get(field.name, "")
        if not text:
            continue
        try:
            payload[field.name] = field.parse(text)
        except ValueError as error:
            problems[field.name] = str(error)
    return payload, problems


def _resolve(own: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a value: without the alternative null, and with references followed."""
    variants = [variant for variant in own.get("anyOf", ()) if variant.get("type") != "null"]
    variant = variants[0] if len(variants) == 1 else own
    name = str(variant.get("$ref", "")).removeprefix("#/$defs/")
    definition: Mapping[str, Any] = schema.get("$defs", {}).get(name, variant)
    return definition


def _field(name: str, value: Mapping[str, Any], own: Mapping[str, Any], required: bool) -> FormField:
    choices = list(value.get("enum", ())) or ([value["const"]] if "const" in value else [])
    is_text = bool(choices) and all(isinstance(choice, str) for choice in choices)
    kind: Kind = "choice" if choices else _KINDS.get(str(value.get("type")), "json")
    shown_choices = tuple(_to_input(choice) for choice in choices)
    if value.get("type") == "boolean":
        kind, shown_choices = "choice", _CHOICES_OF_BOOLEAN
    return FormField(
        name,
        kind,
        required,
        choices=shown_choices,
        help=_help(own, value, kind),
        is_text=is_text,
    )


def _to_input(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _help(own: Mapping[str, Any], value: Mapping[str, Any], kind: Kind) -> str:
    """Return what it is, its limits and its default."""
    parts = [str(own.get("description") or value.get("description") or "").rstrip(".")]
    if value.get("format") == "date-time":
        parts.append("a time with its zone, as 2026-03-01T12:00:00Z")
    elif kind in ("number", "whole number"):
        parts.append(f"a {kind}{_range(value, 'minimum', 'maximum')}")
    elif kind == "json":
        parts.append("JSON")
    parts.append(_characters(value))
    if own.get("default") not in (None, ""):
        parts.append(f"default {_to_input(own['default'])}")
    return "; ".join(filter(None, parts))


def _range(value: Mapping[str, Any], minimum: str, maximum: str) -> str:
    low, high = value.get(minimum), value.get(maximum)
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}"
    if high is not None:
        return f", at most {high:,}"
    return f", at least {low:,}" if low is not None else ""


def _characters(value: Mapping[str, Any]) -> str:
    high = value.get("maxLength")
    return f"at most {high:,} characters" if high is not None else ""
