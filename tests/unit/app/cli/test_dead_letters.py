"""``failed-jobs``: invalid options are refused before any server is used, in one line."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from app.cli.completion import ITEM_STATES
from app.cli.main import main
from app.http.routers.replays import ItemsQuery
from storage.dead_letters.plans import Ledger

COLOR = "color-extraction"
EITHER = "name the letters: ids, or filters such as --queue or --error, or --all"
ASK = "standard input is not a terminal: give --yes, or --dry-run"
CASES = {
    "nothing": (EITHER, ("replay",)),
    "nothing but an option": (EITHER, ("discard", "--yes")),
    "ids and a filter": (EITHER, ("replay", "1", "--queue", COLOR)),
    "ids and all": (EITHER, ("restore", "1", "--all")),
    "a filter and all": (EITHER, ("export", "--since", "2h", "--all")),
    "no answer to a replay": (ASK, ("replay", "--all")),
    "no answer to a discard": (ASK, ("discard", "1", "2")),
    "no answer to a restore": (ASK, ("restore", "--queue", COLOR)),
    "no answer to an archive": (ASK, ("archive",)),
    "no time": ("--since: use for instance 2h", ("list", "--since", "yesterday")),
    "short text": ("--error: string should have at least 3 characters", ("groups", "--error", "ab")),
    "no group": ("--fingerprint: use the 16 hexadecimal digits", ("list", "--fingerprint", "x")),
    "no pair": ("--arg: 'city': use NAME=VALUE", ("list", "--arg", "city")),
    "no value": ("--arg: 'city=': use NAME=VALUE", ("list", "--arg", "city=")),
    "long value": ("--arg city: string should have at most 200", ("list", "--arg", f"city={'x' * 201}")),
    "two values": ("--arg: two values for one name: give each", ("list", "--arg", "n=1", "--arg", "n=2")),
    "unknown state": ("--state: 'gone': use dead", ("list", "--state", "gone")),
    "state of what is discarded": ("o such option: --state", ("discard", "--state", "dead")),
    "no percentage": ("--halt: 'much': use a percentage", ("replay", "--all", "--yes", "--halt", "much")),
    "no halt": ("--halt: '0': use a percentage", ("resume", "1", "--halt", "0")),
    "no rate": ("--rate: input should be greater than 0", ("replay", "--all", "--yes", "--rate", "0")),
    "no canary": ("--canary: input should be greater", ("replay", "--all", "--yes", "--canary", "-1")),
    "payload of many": ("give exactly one id", ("replay", "1", "2", "--data", "{}", "--yes")),
    "payload of a filter": ("give exactly one id", ("replay", "--all", "--data", "{}", "--yes")),
    "payload of nothing": ("--dry-run does not check --data",
                               ("replay", "1", "--data", "{}", "--dry-run")),
    "payload that is none": ("--data: not JSON", ("replay", "1", "--data", "{")),
    "no format": ("--format: 'xml': use jsonl, csv or markdown", ("export", "--all", "--format", "xml")),
    "JSON of a document": ("--json goes with --output FILE", ("export", "--all", "--json")),
    "force on nothing": ("--force goes with --output FILE", ("export", "--all", "--force")),
    "age": ("'--days'", ("archive", "--days", "-1", "--yes")),
    "item state": ("--state: 'dead': use waiting, enqueued", ("plan", "1", "--state", "dead")),
}  # fmt: skip
BY_FILTER = ["list", "groups", "replay", "discard", "restore", "export"]
VERBS = [*BY_FILTER, "show", "plans", "plan", "resume", "pause", "cancel", "archive"]


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: str) -> int:
    """The program's exit code; it has no data directory, and its standard input is no terminal."""
    monkeypatch.setattr(sys, "argv", ["couturecast-tui", "failed-jobs", *arguments])
    monkeypatch.setenv("COUTURECAST_DATA_DIR", str(directory))
    monkeypatch.setattr(sys, "stdin", (directory.parent / "empty").open("w+"))
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", CASES)
def test_invalid_options_give_one_line_errors(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    says, arguments = CASES[name]
    assert run(monkeypatch, tmp_path / "data", *arguments) == 2
    shown = capfd.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith("error: ")
    assert says in shown.err
    assert not (tmp_path / "data").exists()


def test_the_states_of_a_plan_s_letters_are_those_of_its_ledger() -> None:
    names = tuple(field.name for field in fields(Ledger))
    assert names == ITEM_STATES
    assert get_args(get_args(ItemsQuery.model_fields["state"].annotation)[0]) == names


@pytest.mark.parametrize("verb", VERBS)
def test_each_command_has_a_help_of_its_options(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "data", verb, "--help") == 0
    shown = capfd.readouterr().out
    assert "--json" in shown
    assert "--data-dir" in shown
    assert ("--fingerprint HEX" in shown) == (verb in BY_FILTER)
    assert not (tmp_path / "data").exists()
