"""The doctor's findings in the settings, and in the handlers that they name."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.doctor.conftest import MAX_SECONDS, SECRET, doctor
from tests.support.program import Program


def test_broken_settings_are_findings_and_the_others_are_checked(program: Program, postgres_url: str) -> None:
    found = doctor(
        program,
        REDIS_URL=f"redis://:{SECRET}@h:x/0",
        DATABASE_URL=postgres_url,
        COUTURECAST_LOG_LEVEL="loud",
        COUTURECAST_ALERT_FANOUT_TIMEOUT="never",
        COUTURECAST_REDIS_URL="x",
    )
    lines = [
        result["finding"]
        for result in found.items
        if result["group"] == "settings" and result["state"] == "wrong"
    ]
    assert [line.partition(":")[0] for line in lines] == [
        "REDIS_URL",
        "COUTURECAST_LOG_LEVEL",
        "COUTURECAST_ALERT_FANOUT_TIMEOUT",
    ]
    assert found.says("settings variables") == (
        "warning",
        "COUTURECAST_REDIS_URL is not a setting: did you mean REDIS_URL?",
    )
    assert found.says("Redis server") == ("unknown", "not checked: REDIS_URL cannot be read")
    assert found.says("Redis scripts") == ("unknown", "not checked: REDIS_URL cannot be read")
    assert found["database version"]["state"] == "ok"


def test_an_unreadable_env_file_is_wrong(program: Program) -> None:
    (program.directory / ".env").write_bytes(b"\xff\xfe=\x00")
    found = doctor(program)
    assert found.named("wrong") == ["settings settings"]
    assert found["settings settings"]["finding"].startswith(".env is not UTF-8 text")


HANDLERS = {
    "raises": "import logging\nlogging.getLogger('asyncio').error('Traceback')\n"
    f"raise RuntimeError('no key-{SECRET} \\x1b[31m')",
    "prints": "print('loaded')\nasync def run(ctx, **kwargs): ...",
    "hangs": "import time\ntime.sleep(60)",
}


@pytest.mark.slow
@pytest.mark.parametrize("run", ["process", "inline"])
@pytest.mark.parametrize("kind", HANDLERS)
def test_handlers_are_imported(program: Program, kind: str, run: str) -> None:
    (program.directory / f"{kind}.py").write_text(HANDLERS[kind])
    environment = {
        "COUTURECAST_HANDLERS": f"color-extraction={kind}:run",
        "COUTURECAST_COLOR_EXTRACTION_RUN": run,
    }
    started = time.monotonic()
    if kind == "prints":
        done = program.run("doctor", "--json", **environment)
        assert done.err == ("loaded\n" if run == "inline" else "")
        assert done.code == 0
        return
    found = doctor(program, **environment)
    assert time.monotonic() - started < MAX_SECONDS
    assert found.named("wrong") == ["settings handlers"]
    if kind == "raises":
        assert "RuntimeError: no ***" in found["settings handlers"]["finding"]


def test_a_missing_image_folder_is_wrong(program: Program) -> None:
    found = doctor(program, COUTURECAST_IMAGE_DIRS=f"{program.directory}:/nowhere")
    assert found.named("wrong") == ["settings image folders"]
