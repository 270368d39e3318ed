"""CSV of dead letters: what other programs read in it."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from typing import Any

import pytest

from storage.database.tables import LETTERS
from storage.dead_letters.filters import ALL_DEAD
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.operator_actions import OperatorActionRepository
from tests.support.letters import NOON, letter
from tui.text.export import escape_piece
from workers.dead_letters.export import export_letters


async def export(letters: DeadLetterRepository, selection: Any = ALL_DEAD) -> list[str]:
    actions = OperatorActionRepository(letters._database)
    return [
        piece async for piece in export_letters(letters, actions, selection, "csv", lambda letter: letter)
    ]


def parse(document: str) -> list[dict[str, str]]:
    """The rows as any reader of RFC 4180 sees them."""
    header, *rows = csv.reader(document.splitlines(keepends=True), strict=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


async def test_each_column_of_the_table_is_one_of_the_document(letters: DeadLetterRepository) -> None:
    awkward = 'a "quoted", text\nof two lines; größer'
    await letters.record([letter("u1", error_message=awkward, traceback=None, worker=None)])
    header, record = await export(letters)
    assert header == f"{','.join(LETTERS.columns.keys())},archived\r\n"
    assert record.endswith("\r\n")
    (row,) = parse(header + record)
    assert row["error_message"] == awkward
    assert (row["id"], row["attempts"], row["traceback"], row["worker"]) == ("1", "4", "", "")
    assert (row["state"], row["archived"]) == ("dead", "false")
    assert datetime.fromisoformat(row["failed_at"]) == NOON
    assert row["job_data"] == json.dumps(letter().job_data, separators=(",", ":"))
    assert json.loads(row["attempt_errors"]) == letter().attempt_errors


@pytest.mark.parametrize("start", list("=+-@\t\r"))
async def test_no_text_of_a_job_is_run_as_a_formula(letters: DeadLetterRepository, start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    await letters.record([letter("u1", error_message=text, job_id=text, traceback=text)])
    (row,) = parse("".join(await export(letters)))
    assert row["error_message"] == row["job_id"] == row["traceback"] == f"'{text}"


@pytest.mark.slow
async def test_letters_are_sent_one_by_one(letters: DeadLetterRepository) -> None:
    await letters.record([letter(f"u{number}") for number in range(1_200)])
    pieces = await export(letters)
    assert len(pieces) == 1_201
    assert [row["id"] for row in parse("".join(pieces))] == [str(id_) for id_ in range(1_200, 0, -1)]
    assert [row["id"] for row in parse("".join(await export(letters, [3, 7])))] == ["3", "7"]


async def test_no_letters_are_a_header_alone(letters: DeadLetterRepository) -> None:
    (header,) = await export(letters)
    assert header.startswith("id,uid,queue_name,job_id,")


async def test_control_characters_are_escaped_and_json_stays_json(letters: DeadLetterRepository) -> None:
    clear = "\x1b[2J\x9b1m\u202e"
    await letters.record([letter("u1", error_message=f"{clear}\rx", job_data={"kwargs": {"clear": clear}})])
    document = "".join([escape_piece(piece, "csv") for piece in await export(letters)])
    assert "\x1b" not in document
    assert "\r" not in document.replace("\r\n", "")
    (row,) = parse(document)
    assert row["error_message"] == "\\u001b[2J\\u009b1m\\u202e\\u000dx"
    assert json.loads(row["job_data"]) == {"kwargs": {"clear": clear}}
