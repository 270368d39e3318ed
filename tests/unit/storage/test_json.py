"""JSON: the same values as the standard library's, whatever orjson would make of them."""

from __future__ import annotations

import json

import pytest

from storage.json import loads


@pytest.mark.parametrize("digits", [1, 18, 19, 20, 40])
@pytest.mark.parametrize("form", ["{0}", "-{0}", '{{"a": [1, {0}]}}', '"{0}"', "0.{0}", "{0}.5"])
def test_numbers_are_what_the_standard_library_reads(digits: int, form: str) -> None:
    text = form.format("9" * digits)
    value = loads(text.encode())
    assert value == json.loads(text)
    assert type(value) is type(json.loads(text))


@pytest.mark.parametrize("text", ["NaN", "[Infinity, -Infinity]", '"\\ud800"', '"٣"'])
def test_what_orjson_refuses_is_read(text: str) -> None:
    assert repr(loads(text)) == repr(json.loads(text))


@pytest.mark.parametrize("value", [5, None, 1.5])
def test_what_is_no_text_is_a_type_error(value: object) -> None:
    """A database has such values in old columns of JSON."""
    with pytest.raises(TypeError):
        loads(value)  # type: ignore[arg-type]
