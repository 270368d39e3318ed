"""The life of a job by command line: enqueue, run, fail for good, list, show, mend, replay."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.support.program import COLOR, MODERATION, QUEUES, Done, OpenTerminal, Program, client, many, total
from tests.support.waiting import eventually

FAST_RETRIES = {"COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "0.1,0.2,0.3"}
FLAKY = '''
import os

from couturecast_handlers import PermanentError


async def flaky(ctx, **kwargs):
    """Fail for as long as its file is missing."""
    if not os.path.exists(os.environ["MENDED"]):
        raise ConnectionError("the shop is closed \\x1b[31m")
    return "done"
'''


def text(content_id: str) -> str:
    return json.dumps({"content_id": content_id, "text": "A fine linen coat."})


def queue_of(status: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(queue for queue in status["queues"] if queue["name"] == name)
    return found


def dead_letters(program: Program) -> int:
    """Rows in the embedded database."""
    with closing(sqlite3.connect(program.data_dir / "couturecast.db")) as database:
        return int(database.execute("SELECT count(*) FROM job_failures WHERE state = 'dead'").fetchone()[0])


@pytest.mark.slow
async def test_jobs_are_enqueued_one_by_one_by_file_and_by_standard_input(program: Program) -> None:
    started = await program.start()
    file = program.directory / "jobs.jsonl"
    file.write_text(f"{text('f1')}\n\n   \n{text('f2')}\r\n{text('f3')}")
    one, by_file, later = await many(
        program,
        ("enqueue", MODERATION, "--data", text("one")),
        ("enqueue", MODERATION, "--file", str(file)),
        ("enqueue", MODERATION, "--data", text("later"), "--delay", "3600", "--key", "later"),
    )
    assert [one.code, by_file.code, later.code] == [0, 0, 0], one.err + by_file.err + later.err
    assert one.out.strip()
    assert by_file.out == f"3 jobs enqueued on {MODERATION}\n"
    assert later.out == "later\n"
    lines = f"{text('s1')}\n{text('s2')}\n".encode()
    sources = [("-",), ("--file", "-")]
    runs = [("enqueue", MODERATION, *source, "--json") for source in sources]
    for done in await many(program, *runs, stdin=lines):
        assert done.code == 0, done.err
        assert done.json["queue"] == MODERATION
        assert len(set(done.json["keys"])) == 2
    await eventually(lambda: total(program.data_dir, MODERATION, "completed") == 8)
    with client(program.data_dir) as valkey:
        job = json.loads(valkey.get(f"saq:job:{MODERATION}:{one.out.strip()}") or b"")
    assert job["result"]["decision"] == "approved"
    as_json, shown = await many(program, ("status", "--json"), ("status",))
    status = as_json.json
    assert [queue["name"] for queue in status["queues"]] == QUEUES
    moderation = queue_of(status, MODERATION)
    assert (moderation["depth"], moderation["scheduled"], moderation["completed"]) == (0, 1, 8)
    assert (status["dead_letters"], status["redis"]["error"], status["database"]["error"]) == (0, None, None)
    assert [worker["queues"] for worker in status["workers"]] == [QUEUES]
    assert (shown.code, shown.err) == (0, "")
    assert f"{MODERATION} " in shown.out
    assert " · 1 worker · " in shown.out
    assert "redis ok · " in shown.out
    assert " · database ok" in shown.out
    assert await started.stop() == 0


async def test_a_key_that_is_queued_already_is_refused_with_exit_code_1(program: Program) -> None:
    first = program.run("enqueue", MODERATION, "--data", text("a"), "--key", "only\tonce")
    assert (first.code, first.out, first.err) == (0, "only\\x09once\n", "")
    again, as_json = await many(
        program,
        ("enqueue", MODERATION, "--data", text("a"), "--key", "only\tonce"),
        ("enqueue", MODERATION, "--data", text("a"), "--key", "only\tonce", "--json"),
    )
    assert (again.code, as_json.code) == (1, 1)
    assert again.err == "error: a job with the key only\\x09once is queued already\n"
    assert as_json.json == {"queue": MODERATION, "keys": [None]}
    assert queue_of(await program.status(), MODERATION)["depth"] == 1


@pytest.mark.slow
async def test_a_delayed_job_waits_for_its_time(program: Program) -> None:
    started = await program.start("--queues", MODERATION)
    before = time.time()
    assert program.run("enqueue", MODERATION, "--data", text("a"), "--delay", "1.5", "--key", "a").code == 0
    await eventually(lambda: total(program.data_dir, MODERATION, "completed") == 1)
    with client(program.data_dir) as valkey:
        job = json.loads(valkey.get(f"saq:job:{MODERATION}:a") or b"")
    assert job["started"] / 1000 >= before + 1.5
    assert await started.stop() == 0


def assert_letter_is_listed(status: Done, listed: Done) -> None:
    color = queue_of(status.json, COLOR)
    assert (status.json["dead_letters"], color["failed"], color["dead_lettered"]) == (1, 4, 1)
    row = listed.out.splitlines()[1].split()
    assert (row[0], row[3], row[4], row[5]) == ("1", COLOR, "k1", "4")
    assert "the shop is closed \\x1b[31m" in listed.out


def assert_attempts_are_shown(shown: Done) -> None:
    assert [f"attempt {n} at" in shown.out for n in (1, 2, 3, 4, 5)] == [True] * 4 + [False]
    assert shown.out.count("ConnectionError: the shop is closed") == 5  # the head, and four tracebacks
    assert '"item_id": "dress-17\\u001b[2J"' in shown.out
    assert "袍" in shown.out


def assert_is_letter_of(job: dict[str, str], letter: dict[str, Any]) -> None:
    """Its job, its error, and four attempts with the delays of `FAST_RETRIES` between them."""
    assert (letter["queue_name"], letter["job_id"], letter["attempts"]) == (COLOR, "k1", 4)
    assert letter["job_data"]["kwargs"] == job
    assert (letter["error_type"], letter["state"]) == ("ConnectionError", "dead")
    assert [attempt["attempt"] for attempt in letter["attempt_errors"]] == [1, 2, 3, 4]
    waits = [attempt["at"] for attempt in letter["attempt_errors"]]
    for (early, late), delay in zip(itertools.pairwise(waits), (0.1, 0.2, 0.3), strict=True):
        assert delay - 0.005 <= late - early <= delay + 1


async def assert_letter_is_replayed(program: Program) -> None:
    """Neither it nor an unknown one can be replayed, and the only letter is listed as replayed."""
    again, unknown, dead, all_ = await many(
        program,
        ("failed-jobs", "replay", "1"),
        ("failed-jobs", "replay", "77", "--json"),
        ("failed-jobs", "list"),
        ("failed-jobs", "list", "--state", "all", "--json"),
    )
    assert (again.code, again.out) == (1, "")
    assert again.errors == ["error: dead letter 1: it is replayed already"]
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.errors == ["error: no dead letter has the id 77: list them with failed-jobs list"]
    assert (dead.code, dead.out) == (0, "no dead letters\n")
    assert [(item["state"], item["replay_count"]) for item in all_.json["items"]] == [("replayed", 1)]


async def test_a_job_that_fails_for_good_is_listed_shown_mended_and_replayed(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(FLAKY)
    mended = tmp_path / "mended"
    program.environment |= FAST_RETRIES | {
        "PYTHONPATH": str(tmp_path),
        "MENDED": str(mended),
        "COUTURECAST_HANDLERS": f"{COLOR}=shop:flaky",
    }
    started = await program.start()
    job = {"item_id": "dress-17\x1b[2J", "note": "袍"}
    assert program.run("enqueue", COLOR, "--data", json.dumps(job), "--key", "k1").code == 0
    await eventually(lambda: total(program.data_dir, COLOR, "retried") == 3, what="three retries")
    await eventually(lambda: dead_letters(program) == 1, what="the dead letter")
    status, listed, shown, as_json, as_list = await many(
        program,
        ("status", "--json"),
        ("failed-jobs", "list"),
        ("failed-jobs", "show", "1"),
        ("failed-jobs", "show", "1", "--json"),
        ("failed-jobs", "list", "--json", "--queue", COLOR),
    )
    assert [done.code for done in (status, listed, shown, as_json, as_list)] == [0] * 5
    assert_letter_is_listed(status, listed)
    assert_attempts_are_shown(shown)
    assert not any("\x1b" in done.out for done in (listed, shown, as_json, as_list))
    letter = as_json.json
    (alone,) = letter.pop("lineage")
    assert (alone["id"], alone["replays"]) == (1, [])
    assert as_list.json == {"items": [letter], "next": None}
    assert_is_letter_of(job, letter)

    mended.write_text("")
    replayed = program.run("failed-jobs", "replay", "1")
    assert (replayed.code, replayed.out, replayed.err) == (0, "1 replayed as job k1\n", "")
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == 1)
    with client(program.data_dir) as valkey:
        assert json.loads(valkey.get(f"saq:job:{COLOR}:k1") or b"")["result"] == "done"
    await assert_letter_is_replayed(program)
    assert await started.stop() == 0


@pytest.mark.slow
async def test_the_mended_picture_of_a_replayed_job_gets_its_palette(program: Program) -> None:
    images = program.directory / "images"
    images.mkdir()
    program.environment |= {"COUTURECAST_IMAGE_DIRS": str(images)}
    started = await program.start("--queues", COLOR)
    data = '{"item_id": "dress-17", "image": "dress.jpg"}'
    assert program.run("enqueue", COLOR, "--data", data, "--key", "k").code == 0
    await eventually(lambda: dead_letters(program) == 1)  # on its first attempt: another would not help
    sample = files("app.process").joinpath("samples", "images", "red-dress.jpg")
    shutil.copy(str(sample), images / "dress.jpg")
    assert program.run("failed-jobs", "replay", "1").code == 0
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == 1, within=30)
    with client(program.data_dir) as valkey:
        result = json.loads(valkey.get(f"saq:job:{COLOR}:k") or b"")["result"]
    assert result["item_id"] == "dress-17"
    assert result["colors"][0]["hex"].startswith("#")
    assert await started.stop() == 0


async def test_a_paused_queue_shows_who_and_why_and_starts_nothing_until_it_is_resumed(
    program: Program,
) -> None:
    started = await program.start()
    paused = program.run("pause", MODERATION, "--reason", "model\nrollout")
    assert (paused.code, paused.err) == (0, "")
    assert paused.out.startswith(f"{MODERATION} is paused")
    job, other = await many(
        program,
        ("enqueue", MODERATION, "--data", text("a")),
        ("enqueue", "weather-ingestion", "--data", '{"location_id": "porto", "lat": 41.1, "lon": -8.6}'),
    )
    assert (job.code, other.code) == (0, 0)
    await eventually(lambda: total(program.data_dir, "weather-ingestion", "completed") == 1)
    shown, as_json = await many(program, ("status",), ("status", "--json"))
    row = next(line for line in shown.out.splitlines() if f"‖ {MODERATION} " in line)
    assert "paused " in row
    assert row.endswith(": model\\x0arollout")
    moderation = queue_of(as_json.json, MODERATION)
    assert (moderation["depth"], moderation["completed"]) == (1, 0)
    assert moderation["paused"]["reason"] == "model\nrollout"
    assert "@" in moderation["paused"]["by"]
    assert abs(moderation["paused"]["since"] - time.time()) < 60
    resumed = program.run("resume", MODERATION)
    assert (resumed.code, resumed.out) == (0, f"{MODERATION} runs again\n")
    await eventually(lambda: total(program.data_dir, MODERATION, "completed") == 1)
    again = program.run("resume", MODERATION)
    assert (again.code, again.out) == (0, f"{MODERATION} was not paused\n")
    assert await started.stop() == 0


@pytest.mark.slow
async def test_a_list_is_read_page_by_page_with_its_cursor(program: Program) -> None:
    program.environment |= {"COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none"}
    started = await program.start("--queues", COLOR)
    jobs = "".join(f'{{"item_id": "i{number}", "image": "none.jpg"}}\n' for number in range(5))
    assert program.run("enqueue", COLOR, "-", stdin=jobs.encode()).code == 0
    await eventually(lambda: total(program.data_dir, COLOR, "dead_lettered") == 5)
    await eventually(lambda: dead_letters(program) == 5)
    page = ("failed-jobs", "list", "--json", "--limit", "2")
    first, text_page = await many(program, page, ("failed-jobs", "list", "--limit", "4"))
    second, text_rest = await many(
        program,
        (*page, "--cursor", first.json["next"]),
        ("failed-jobs", "list", "--cursor", text_page.err.split()[-1]),
    )
    third = program.run(*page, "--cursor", second.json["next"])
    pages = [first, second, third]
    assert [(page.code, page.err, set(page.json)) for page in pages] == [(0, "", {"items", "next"})] * 3
    assert [len(page.json["items"]) for page in pages] == [2, 2, 1]
    seen = [item for page in pages for item in page.json["items"]]
    assert {item["id"] for item in seen} == {1, 2, 3, 4, 5}
    assert sorted((item["failed_at"] for item in seen), reverse=True) == [item["failed_at"] for item in seen]
    assert third.json["next"] is None
    assert text_page.err.startswith("more: --cursor ")
    assert len(text_page.out.splitlines()) == 1 + 4
    assert len(text_rest.out.splitlines()) == 1 + 1
    assert await started.stop() == 0


def test_the_data_directory_may_be_named_before_the_command(program: Program) -> None:
    elsewhere = program.data_dir.parent / "elsewhere"
    done = program.run("--data-dir", str(elsewhere), "enqueue", MODERATION, "--data", text("a"))
    assert done.code == 0
    assert (elsewhere / "couturecast.db").exists()
    after = program.run("status", "--json", "--data-dir", str(elsewhere), COUTURECAST_DATA_DIR="/proc/none")
    assert after.code == 0, after.err  # the flag is stronger
    assert queue_of(after.json, MODERATION)["depth"] == 1


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("failed-jobs", "list", "--help")])
def test_commands_without_need_of_a_server_start_none(program: Program, arguments: tuple[str, ...]) -> None:
    done = program.run(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "couturecast-tui" in done.out
    assert not program.data_dir.exists()


@pytest.mark.slow
def test_unread_output_gives_no_traceback(program: Program) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb"), TemporaryFile() as errors:
        process = program.popen("status", "--json", streams=(DEVNULL, writer, errors.fileno()))
        assert process.wait(30) == 1
        errors.seek(0)
        assert errors.read() == b""
    narrow = program.run("status", PYTHONIOENCODING="ascii")
    assert (narrow.code, narrow.err) == (0, "")
    assert narrow.out.isascii()
    assert "\\u" not in narrow.out


async def test_a_file_of_many_jobs_is_enqueued_with_a_bar_on_a_terminal(
    program: Program, terminal: OpenTerminal
) -> None:
    file = program.directory / "jobs.jsonl"
    file.write_text("".join(f"{json.dumps({'content_id': str(n), 'text': 'linen'})}\n" for n in range(1_500)))
    shown = terminal("enqueue", MODERATION, "--file", str(file))
    assert await shown.code() == 0
    assert f"enqueueing on {MODERATION} ━" in shown.text
    assert f"1500 jobs enqueued on {MODERATION}" in shown.text
    piped = program.run("enqueue", MODERATION, "--file", str(file))
    assert (piped.code, piped.out, piped.err) == (0, f"1500 jobs enqueued on {MODERATION}\n", "")
