"""The wheel: holds one package with all that it reads, and runs beside a project of any package names."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.program import RUN_SECONDS, Done, Program

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "storage", "tui", "workers")
BUNDLE = "couturecast_tui/_bundle"
JOB = '{"content_id": "c", "text": "A fine linen coat."}'
RUN = (
    "import couturecast_tui; print(couturecast_tui.__file__, flush=True); "
    "from couturecast_tui.entry import main; main()"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    directory = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = directory.iterdir()
    return built


def sources() -> set[str]:
    """Every file of the packages, as it is to lie in the wheel, and the runbook that the dashboard shows."""
    return {
        f"{BUNDLE}/docs/operating.md",
    } | {
        str(
            path.relative_to(ROOT)
            if package.startswith("couturecast")
            else Path(BUNDLE, path.relative_to(ROOT))
        )
        for package in (*PACKAGES, "couturecast_tui", "couturecast_handlers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def test_it_holds_one_package_with_every_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert archive.testzip() is None
    packages = {name.partition("/")[0] for name in names}
    (metadata,) = packages - {"couturecast_tui", "couturecast_handlers"}
    assert metadata.startswith("couturecast_tui-")
    assert metadata.endswith(".dist-info")
    assert {name for name in names if not name.startswith(metadata)} == sources()
    assert {"take.lua", "settle.lua", "enqueue.lua", "lock.lua"} <= {Path(name).name for name in names}
    for needed in (
        *(f"{BUNDLE}/tui/styles/{name}.tcss" for name in ("base", "screens", "dialogs")),
        f"{BUNDLE}/storage/database/migrations/env.py",
        f"{BUNDLE}/storage/database/migrations/versions/0001_first_tables.py",
        f"{BUNDLE}/app/process/samples/images/red-dress.jpg",
        *(f"{BUNDLE}/{package}/py.typed" for package in PACKAGES),
        "couturecast_handlers/py.typed",
        *(f"{metadata}/{name}" for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")),
    ):
        assert needed in names, needed


@pytest.mark.slow
def test_it_runs_with_a_project_on_the_path_that_has_packages_of_the_same_names(
    wheel: Path, program: Program, tmp_path: Path
) -> None:
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    project = tmp_path / "project"
    for package in PACKAGES:
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text("raise ImportError('the project was imported')")

    def run(*arguments: str, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *arguments, "--data-dir", str(program.data_dir)],
            env=program.environment | {"PYTHONPATH": f"{project}{os.pathsep}{unpacked}"} | environment,
            cwd=program.directory,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        origin, _, out = done.stdout.partition("\n")
        assert Path(origin).is_relative_to(unpacked), "another copy was imported"
        return Done(done.returncode, out, done.stderr)

    enqueued = run("enqueue", "moderation-review", "--data", JOB, "--key", "k")
    assert (enqueued.code, enqueued.out, enqueued.err) == (0, "k\n", "")
    status = run("status", "--json")
    assert (status.code, status.err) == (0, "")
    assert [queue["depth"] for queue in status.json["queues"]] == [0, 0, 0, 1]
    assert (program.data_dir / "couturecast.db").stat().st_size > 0
    assert not os.listdir(program.directory), "nothing is written to the working directory"

    shop = tmp_path / "shop"
    (shop / "app").mkdir(parents=True)
    (shop / "app" / "__init__.py").write_text("NAME = 'the shop'")
    (shop / "colors.py").write_text("import app\ndef work(ctx):\n    return app.NAME\n")
    done = run(
        *("run", "color-extraction", "--data", "{}"),
        COUTURECAST_HANDLERS="color-extraction=colors:work",
        COUTURECAST_HANDLERS_PATH=str(shop),
    )
    assert (done.code, done.out) == (0, '"the shop"\n')
