"""The doctor's conclusions about terminals, hosts, folders and tokens."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.doctor.checks import embedded_valkey, machine, settings, sqlite
from app.doctor.checks.disk import nearest_existing, network_file_system
from app.doctor.checks.settings import load_settings
from app.doctor.checks.sqlite import SqliteFile
from app.doctor.checks.terminal import assess_terminal
from app.doctor.network import is_private_host


@pytest.mark.parametrize(
    ("term", "size", "encoding", "state"),
    [
        ("xterm-256color", (80, 24), "UTF-8", "ok"),
        ("xterm", (0, 0), "utf8", "ok"),
        ("dumb", (80, 24), "UTF-8", "warning"),
        ("", (80, 24), "UTF-8", "warning"),
        ("xterm", (59, 24), "UTF-8", "warning"),
        ("xterm", (80, 20), "UTF-8", "warning"),
        ("xterm", (80, 24), "ANSI_X3.4-1968", "warning"),
    ],
)
def test_a_terminal_that_cannot_show_the_dashboard_is_a_warning(
    term: str, size: tuple[int, int], encoding: str, state: str
) -> None:
    assert assess_terminal({"TERM": term}, size, encoding).state == state


def test_the_colours_of_a_terminal_are_reported() -> None:
    def says(**variables: str) -> str:
        return assess_terminal({"TERM": "xterm"} | variables, (80, 24), "UTF-8").text

    assert "16 colours" in says()
    assert "256 colours" in says(TERM="screen-256color")
    assert "all colours" in says(COLORTERM="truecolor")
    assert "NO_COLOR" in says(NO_COLOR="1", COLORTERM="truecolor")


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("", True),
        ("/var/run", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("8.8.8.8", False),
    ],
)
async def test_private_hosts_are_distinguished_from_public_ones(host: str, near: bool) -> None:
    assert await is_private_host(host) is near


def test_the_nearest_existing_folder_is_found(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert network_file_system(tmp_path / "a") == ""


@pytest.fixture
def nobody() -> Iterator[None]:
    """Without the rights of root, if the tests run with them."""
    root = os.geteuid() == 0
    codecs.lookup("ascii")  # which may lie where only root reads
    if root:
        os.setresuid(65534, 65534, 0)
    yield
    if root:
        os.setresuid(0, 0, 0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that anybody may write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


async def test_a_folder_without_rights_is_wrong(place: Path, nobody: None) -> None:
    (place / "closed").mkdir(mode=0)
    file = SqliteFile(place / "closed" / "couturecast.db")
    assert (await sqlite.file(file)).state == "wrong"
    assert (await sqlite.migrations(file)).text == "not checked: no right to enter its folder"


async def test_an_image_folder_without_rights_is_wrong(
    place: Path, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    (place / "closed").mkdir(mode=0)
    monkeypatch.setenv("COUTURECAST_IMAGE_DIRS", str(place / "closed" / "images"))
    assert (await settings.images(load_settings(data_dir=place))).state == "wrong"


def test_a_folder_whose_mode_a_start_corrects_is_ok(place: Path, nobody: None) -> None:
    (place / "valkey").mkdir(mode=0o500)
    assert embedded_valkey.socket_folder_problem(place / "valkey") is None


@pytest.mark.parametrize(
    ("kept", "http", "state"),
    [
        ("short", "none", "ok"),
        ("short", "127.0.0.1:1", "wrong"),
        ("read-only-but-long", "127.0.0.1:1", "wrong"),
    ],
)
async def test_an_unusable_token_file_is_wrong_if_http_is_on(
    place: Path, nobody: None, monkeypatch: pytest.MonkeyPatch, kept: str, http: str, state: str
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("COUTURECAST_HTTP", http)
    (place / "admin-token").write_text(kept)
    (place / "admin-token").chmod(0o400 if "read-only" in kept else 0o600)
    assert (await machine.token(load_settings(data_dir=place))).state == state


async def test_a_token_of_another_user_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "admin-token").write_text("long-enough-to-be-one")
    assert (await machine.token(load_settings(data_dir=tmp_path))).state == "ok"
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    found = await machine.token(load_settings(data_dir=tmp_path))
    assert (found.state, "another user" in found.text) == ("wrong", True)
