"""Dead letters on the command line: look, discard, restore, export, archive; and what is refused."""

from __future__ import annotations

import csv
import io
import json
import signal
import stat
from dataclasses import dataclass

import pytest

from tests.acceptance.buried import GROUPS, acts, bury_six, failed_jobs, states
from tests.support.program import COLOR, MODERATION, Done, OpenTerminal, Program, many


@dataclass(frozen=True)
class Case:
    """A command, and the error that it prints."""

    says: str
    arguments: tuple[str, ...]
    code: int = 2


CASES = {
    "unknown queue": Case("unknown queue 'x'", ("replay", "--queue", "x", "--dry-run")),
    "replay of what is hidden": Case("o such option: --state", ("replay", "--state", "discarded", "--yes")),
    "no folder": Case("--output: none/x: No such file", ("export", "--all", "--output", "none/x"), 1),
    "no file": Case("--output: . is not a file", ("export", "--all", "--output", ".", "--force")),
    "unknown plan": Case("no plan has the id 7: list them with failed-jobs plans", ("plan", "7"), 1),
    "unknown plan to resume": Case("no plan has the id 7", ("resume", "7"), 1),
    "unknown plan to pause": Case("no plan has the id 7", ("pause", "7"), 1),
    "unknown plan to cancel": Case("no plan has the id 7", ("cancel", "7"), 1),
    "unknown id": Case("no dead letter has the id 8, 9", ("discard", "8", "9", "--yes"), 1),
    "unknown id to restore": Case("no dead letter has the id 8", ("restore", "8"), 1),
    "unknown id to export": Case("no dead letter has the id 8", ("export", "8"), 1),
    "unknown id to try": Case("no dead letter has the id 8", ("replay", "8", "--dry-run"), 1),
}  # fmt: skip


@pytest.mark.slow
async def test_unknown_ids_and_files_give_one_line_errors(program: Program) -> None:
    results: list[Done] = []
    cases = list(CASES.values())
    for at in range(0, len(cases), 6):
        results += await many(program, *failed_jobs(*(case.arguments for case in cases[at : at + 6])))
    for (name, case), done in zip(CASES.items(), results, strict=True):
        assert (done.code, done.out) == (case.code, ""), (name, done)
        assert len(done.errors) == 1, (name, done.err)
        assert case.says in done.errors[0], (name, done.err)
        assert "Traceback" not in done.err
    assert not list(program.directory.iterdir())


@pytest.mark.slow
async def test_letters_are_found_by_every_condition(program: Program) -> None:
    await bury_six(program)
    conditions: dict[tuple[str, ...], list[int]] = {
        (): [6, 5, 4, 3, 1, 2],
        ("--function", "review_content", "--queue", MODERATION, "--since", "2d"): [6, 5],
        ("--until", "30d"): [2],
        ("--error", "TIMEOUTERROR: no answer"): [4, 3, 1],
        ("--fingerprint", GROUPS["ConnectionError"]): [6, 5, 2],
        ("--arg", "city=porto", "--arg", "text=x"): [6, 5, 2],
        ("--no-poison", "--limit", "2"): [6, 5],
        ("--archived", "--state", "all"): [],
    }
    runs = failed_jobs(*(("list", *arguments, "--json") for arguments in conditions))
    found = await many(program, *runs)
    for (condition, ids), done in zip(conditions.items(), found, strict=True):
        assert (done.code, done.err) == (0, ""), done
        assert sorted(item["id"] for item in done.json["items"]) == sorted(ids), condition
    listed, shown, grouped, as_json, fewer = await many(
        program,
        *failed_jobs(
            ("list", "--state", "all", "--limit", "1"),
            ("show", "1"),
            ("groups",),
            ("groups", "--json", "--limit", "1"),
            ("groups", "--queue", MODERATION, "--since", "1d", "--json"),
        ),
    )
    assert listed.out.split("\n")[0].split() == [
        "id",
        "failed",
        "at",
        "queue",
        "job",
        "att",
        "state",
        "error",
    ]
    assert listed.err.startswith("more: --cursor ")
    assert "group aaaaaaaaaaaaaaaa" in shown.out
    assert "\x1b" not in listed.out + shown.out + grouped.out
    assert grouped.out.count("\n\n") == 1
    assert f"group {'b' * 16}  newest 6  {MODERATION}  review_content" in grouped.out
    (group,) = as_json.json["items"]
    assert (group["count"], len(group["trend"]), sum(group["trend"])) == (3, 24, 3)
    assert group["sample"]["id"] == 4
    assert [(group["count"], group["sample"]["id"]) for group in fewer.json["items"]] == [(2, 6)]
    assert acts(program) == []


@pytest.mark.slow
async def test_a_discard_is_tried_first_and_can_be_undone(program: Program) -> None:
    await bury_six(program)
    tried, as_json = await many(
        program,
        *failed_jobs(
            ("discard", "--queue", COLOR, "--dry-run"), ("discard", "--queue", COLOR, "--dry-run", "--json")
        ),
    )
    assert (tried.code, tried.out.split("\n")[0]) == (0, f"3 letters selected, all of {COLOR}")
    assert {name: as_json.json[name] for name in ("dry_run", "total", "others", "queues")} == {
        "dry_run": True,
        "total": 3,
        "others": 0,
        "queues": {COLOR: 3},
    }
    assert set(states(program).values()) == {"dead"}
    assert acts(program) == []
    done = program.run("failed-jobs", "discard", "--queue", COLOR, "--yes", "--reason", "noise")
    assert (done.code, done.out) == (0, "3 letters discarded; failed-jobs restore undoes it\n")
    assert states(program) == {
        1: "discarded",
        2: "dead",
        3: "discarded",
        4: "discarded",
        5: "dead",
        6: "dead",
    }
    one, some = await many(program, *failed_jobs(("discard", "5"), ("discard", "1", "6", "--yes", "--json")))
    assert (one.code, one.out) == (0, "1 letter discarded; failed-jobs restore undoes it\n")
    assert (some.code, some.json) == (1, {"dry_run": False, "total": 1, "left_out": [1]})
    tried, some = await many(
        program, *failed_jobs(("restore", "--all", "--dry-run"), ("restore", "1", "2", "--dry-run", "--json"))
    )
    assert (tried.code, tried.out) == (0, "5 letters were discarded\n")
    assert some.json == {"dry_run": True, "total": 1, "left_out": [2]}
    one = program.run("failed-jobs", "restore", "3")
    assert (one.code, one.out) == (0, "1 letter restored\n")
    rest = program.run("failed-jobs", "restore", "--all", "--yes", "--reason", "after all")
    assert (rest.code, rest.out) == (0, "4 letters restored\n")
    assert set(states(program).values()) == {"dead"}
    none = program.run("failed-jobs", "restore", "--all", "--yes")
    assert (none.code, none.out) == (0, "0 letters restored\n")
    made = acts(program)
    assert (made[0], sorted(made[1:3])) == (("discard", 3, "noise"), [("discard", 1, "")] * 2)
    assert made[3:] == [("restore", 1, ""), ("restore", 4, "after all")]


@pytest.mark.slow
async def test_an_export_is_a_document_for_its_owner(program: Program) -> None:
    await bury_six(program)
    file = program.directory / "letters.jsonl"
    lines, some, markdown, written = await many(
        program,
        *failed_jobs(
            ("export", "--all"),
            ("export", "2", "1"),
            ("export", "--queue", COLOR, "--format", "markdown"),
            ("export", "--state", "all", "--output", str(file), "--json"),
        ),
    )
    assert [done.code for done in (lines, some, markdown, written)] == [0] * 4
    assert [json.loads(line)["id"] for line in lines.out.splitlines()] == [6, 5, 4, 3, 1, 2]
    assert {json.loads(line)["job_id"] for line in some.out.splitlines()} == {"k0", "k5"}
    assert "## 3 × extract\\_colors: TimeoutError" in markdown.out
    assert not any("\x1b" in done.out for done in (lines, some, markdown))
    assert written.json == {"file": str(file), "format": "jsonl", "lines": 6}
    assert file.read_text() == lines.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = program.run("failed-jobs", "export", "1", "--output", str(file))
    assert (again.code, len(again.errors)) == (2, 1)
    assert again.errors[0].endswith("exists already: name another file, or give --force")
    failed = program.run("failed-jobs", "export", "9", "--output", str(file), "--force")
    assert (failed.code, file.read_text()) == (1, lines.out)
    forced = program.run("failed-jobs", "export", "1", "--output", str(file), "--force")
    assert (forced.code, forced.out) == (0, f"{file}: 1 line\n")
    assert [path.name for path in program.directory.iterdir()] == [file.name]


async def test_an_export_is_a_table_for_a_spreadsheet(program: Program) -> None:
    await bury_six(program)
    file = program.directory / "letters.csv"
    printed, written = await many(
        program,
        *failed_jobs(
            ("export", "--all", "--format", "csv"),
            ("export", "--all", "--format", "csv", "--output", str(file)),
        ),
    )
    assert (printed.code, written.code) == (0, 0)
    assert file.read_bytes().decode() == printed.out
    rows = list(csv.DictReader(io.StringIO(printed.out, newline="")))
    assert [row["id"] for row in rows] == ["6", "5", "4", "3", "1", "2"]
    assert {row["error_message"] for row in rows} == {"no answer \\u001b[2J"}


@pytest.mark.slow
async def test_old_letters_go_into_the_archive_and_are_replayed_from_it(program: Program) -> None:
    await bury_six(program)
    tried, as_json = await many(
        program, *failed_jobs(("archive", "--dry-run"), ("archive", "--dry-run", "--json"))
    )
    assert tried.out == "1 letter older than 30 days\n"
    assert as_json.json == {"dry_run": True, "total": 1}
    assert len(states(program)) == 6
    done = program.run("failed-jobs", "archive", "--yes", "--json")
    assert (done.code, done.json) == (0, {"dry_run": False, "total": 1})
    assert sorted(states(program)) == [1, 3, 4, 5, 6]
    listed, shown, replayed = await many(
        program,
        *failed_jobs(
            ("list", "--archived", "--state", "all", "--json"),
            ("show", "2"),
            ("replay", "--archived", "--yes", "--json"),
        ),
    )
    assert [item["id"] for item in listed.json["items"]] == [2]
    assert "state dead, archived" in shown.out or "state replayed, archived" in shown.out
    assert (replayed.code, replayed.json["ledger"]["enqueued"]) == (0, 1)
    assert [verb for verb, *_ in acts(program)] == ["archive", "plan", "run-plan"]


@pytest.mark.slow
async def test_read_only_mode_refuses_what_changes_something_and_nothing_else(program: Program) -> None:
    await bury_six(program)
    program.environment |= {"COUTURECAST_READ_ONLY": "1"}
    changing = [
        ("replay", "1"),
        ("replay", "--all", "--yes"),
        ("resume", "1"),
        ("pause", "1"),
        ("cancel", "1"),
        ("discard", "--all", "--yes"),
        ("restore", "1"),
        ("archive", "--yes"),
    ]
    harmless = [
        ("replay", "--all", "--dry-run"),
        ("discard", "1", "--dry-run"),
        ("restore", "--all", "--dry-run"),
        ("archive", "--dry-run"),
        ("plans",),
    ]
    refused = await many(program, *failed_jobs(*changing))
    for arguments, done in zip(changing, refused, strict=True):
        assert (done.code, done.out, len(done.errors)) == (1, "", 1), (arguments, done)
        assert done.errors[0].startswith("error: read-only: "), arguments
    for done in await many(program, *failed_jobs(*harmless)):
        assert done.code == 0, done.err
    assert set(states(program).values()) == {"dead"}
    assert acts(program) == []


@pytest.mark.parametrize("answer", ["n\r", "", "y\r"])
async def test_verbs_on_many_letters_are_confirmed_first(
    program: Program, terminal: OpenTerminal, answer: str
) -> None:
    await bury_six(program)
    asked = terminal("failed-jobs", "discard", "--queue", COLOR)
    await asked.shows("Discard 3 letters? They can be restored [y/N]")
    assert f"3 letters selected, all of {COLOR}" in asked.text
    if answer:
        asked.press(answer)
    else:
        asked.process.send_signal(signal.SIGINT)
    code = await asked.code()
    if answer == "y\r":
        assert (code, acts(program)) == (0, [("discard", 3, "")])
        return
    says = "nothing was changed" if answer else "interrupted"
    assert (code, f"error: {says}" in asked.text) == (1 if answer else 130, True)
    assert acts(program) == []
