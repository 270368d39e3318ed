"""The doctor's findings on the machine: the data directory, the token, the port."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.doctor.conftest import doctor
from tests.support.program import Program
from tests.support.servers import free_port


def test_a_file_instead_of_the_data_directory_is_wrong(program: Program) -> None:
    program.data_dir.write_text("")
    found = doctor(program)
    assert "machine data directory" in found.named("wrong")
    assert "database file" in found.named("wrong")
    assert "Redis server" in found.named("wrong")
    program.data_dir.unlink()


def test_a_data_directory_that_others_can_read_is_a_warning(program: Program) -> None:
    program.data_dir.mkdir()
    program.data_dir.chmod(0o755)
    found = doctor(program)
    assert "0755" in found["machine data directory"]["finding"]
    assert found["machine data directory"]["mend"] == f"chmod 700 {program.data_dir}"


def test_an_unusable_token_is_wrong(program: Program) -> None:
    program.data_dir.mkdir(mode=0o700)
    (program.data_dir / "admin-token").write_text("short\n")
    found = doctor(program, COUTURECAST_HTTP=f"127.0.0.1:{free_port()}")
    assert found.named("wrong") == ["machine admin token"]


@pytest.mark.slow
def test_a_taken_port_is_wrong(program: Program, black_hole: int) -> None:
    found = doctor(program, COUTURECAST_HTTP=f"127.0.0.1:{black_hole}")
    assert found.named("wrong") == ["machine HTTP"]
    assert "taken by another program" in found["machine HTTP"]["finding"]


async def test_our_own_port_is_ok(program: Program) -> None:
    at = {"COUTURECAST_HTTP": f"127.0.0.1:{free_port()}"}
    started = await program.start(**at)
    found = await asyncio.to_thread(doctor, program, **at)
    assert found["machine HTTP"]["finding"].endswith("is served by couturecast-tui already")
    assert await started.stop() == 0, started.err
