"""A payload is read by one parser, whoever hands it in: the command line, HTTP or the edit dialog."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message
from textual.widgets import TextArea

from app.cli.values import json_object
from app.errors import UsageError
from app.http.problems import ProblemError
from app.http.routing import StrictRequest
from tests.support.dashboards import dashboard, letters_view, until
from tests.support.letters_view import ask, operations, says
from tui.dialogs.edit_payload import EditPayloadDialog
from workers.engine.json_input import parse_json, parse_object
from workers.errors import InvalidJsonError

REFUSED = {
    "nothing": ("", "Expecting value at line 1, column 1"),
    "half an object": ('{"a": ', "at line 1, column 7"),
    "on the second line": ('{"a": 1,\n"b": }', "at line 2, column 6"),
    "a byte order mark": ("\ufeff{}", "byte order mark"),
    "NaN": ('{"a": NaN}', "NaN is not a number"),
    "infinity": ('{"a": [-Infinity]}', "-Infinity is not a number"),
    "1e999": ('{"a": 1e999}', "1e999 is too large a number"),
    "-1E400 deep in it": ('{"a": {"b": [-1E400]}}', "-1E400 is too large a number"),
    "endless digits": (f'{{"a": {"1" * 5_000}}}', "Exceeds the limit"),
    "a key twice": ('{"a": 1, "b": 2, "a": 3}', 'has the key "a" more than once'),
    "a key twice, written in two ways": ('{"a": 1, "\\u0061": 3}', 'has the key "a" more than once'),
    "a key twice, deep in it": ('{"x": [{"a": 1, "a": 1}]}', 'has the key "a" more than once'),
    "too deep": ('{"a":' * 300 + "1" + "}" * 300, "nested too deeply"),
    "without end": ("[" * 100_000, "nested too deeply"),
}
NO_OBJECT = {
    "list": ('[{"a": 1}]', "a JSON object is needed"),
    "text": ('"a"', "a JSON object is needed"),
    "null": ("null", "a JSON object is needed"),
}
TAKEN: dict[str, dict[str, Any]] = {
    '{"a": 1e308, "b": -0.0, "c": 1e-999}': {"a": 1e308, "b": -0.0, "c": 0.0},
    '{"a": 123456789012345678901234567890}': {"a": 123456789012345678901234567890},
    '{"a": {"x": 1}, "b": {"x": 1}}': {"a": {"x": 1}, "b": {"x": 1}},
    '{"a": "Infinity", "b": "\\u00fc"}': {"a": "Infinity", "b": "ü"},
}


async def parse_body(body: bytes) -> Any:
    """Return the value of a body, as a route gets it."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return await StrictRequest({"type": "http", "headers": []}, receive).json()


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
async def test_command_line_and_http_refuse_the_same(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=r"^--data: ") as by_command:
        json_object(text, "--data")
    with pytest.raises(ProblemError) as by_request:
        await parse_body(text.encode())
    assert problem in str(by_command.value)
    assert by_request.value.detail == f"the body: {str(by_command.value).removeprefix('--data: ')}"


@pytest.mark.parametrize("text", TAKEN)
async def test_command_line_and_http_accept_the_same(text: str) -> None:
    assert json_object(text, "--data") == await parse_body(text.encode()) == TAKEN[text]


def test_the_edit_dialog_refuses_the_same() -> None:
    """Bytes that are no UTF-8 cannot come from a text area."""
    with pytest.raises(InvalidJsonError, match="not UTF-8"):
        parse_object(b'{"a": "\xe9"}')


@pytest.mark.slow
async def test_the_edit_dialog_shows_what_is_wrong() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "e", screen=EditPayloadDialog)
        area = app.screen.query_one(TextArea)
        for text, problem in (REFUSED | NO_OBJECT).values():
            area.text = text
            await pilot.pause()  # the change hides the error before, and must not hide the next one
            await until(pilot, lambda: "▲" not in says(app))
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "▲" in says(app))
            assert problem in says(app)
    assert not canned.done


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_finite_values_survive_the_parser(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    if all(map(math.isfinite, floats_in(value))):
        assert parse_object(text) == value
    else:
        with pytest.raises(InvalidJsonError):
            parse_object(text)


@given(st.text() | st.binary())
def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    with suppress(InvalidJsonError):
        value = parse_json(text)
        assert json.loads(text if isinstance(text, str) else text.decode()) == value


def floats_in(value: object) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value for found in floats_in(item)] if isinstance(value, list) else []
