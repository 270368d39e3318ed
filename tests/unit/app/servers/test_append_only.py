"""Finds the last whole command of an append-only file, whatever stands behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.servers.append_only import cut_off, ends_badly, find_damage, last_file


def command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


SET = command(b"SET", b"saq:job:color-extraction:k", b'{"kwargs": {"image": "\x00\r\n*\xff"}}')
TRANSACTION = (command(b"MULTI"), SET, command(b"RPUSH", b"list", b""), command(b"EXEC"))
NOTE = b"#TS:1700000000\r\n"

commands = st.lists(
    st.one_of(
        st.builds(
            command, st.sampled_from([b"SET", b"hset", b"JSON.SET"]), st.binary(max_size=30), st.binary()
        ),
        st.just(b"".join(TRANSACTION)),
        st.just(NOTE),
    ),
    max_size=8,
).map(b"".join)
zeros = st.integers(1, 9000).map(bytes)
garbage = st.binary(min_size=1, max_size=200).filter(lambda tail: not tail.startswith(b"#"))
half = st.builds(lambda number: SET[:number], st.integers(1, len(SET) - 1))
transaction = st.builds(
    lambda number: b"".join(TRANSACTION)[:number], st.integers(1, sum(map(len, TRANSACTION)) - 1)
)
tails = st.one_of(
    zeros,
    garbage,
    half,
    transaction,
    st.builds(bytes.__add__, half, zeros),
    st.builds(bytes.__add__, transaction, zeros),
    st.just(b"#TS:17"),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aof") / "appendonly.aof.1.incr.aof"


@settings(deadline=None)
@given(whole=commands)
def test_a_file_of_whole_commands_is_not_damaged(file: Path, whole: bytes) -> None:
    file.write_bytes(whole)
    assert find_damage(file) is None
    assert not ends_badly(file)


@settings(deadline=None)
@given(whole=commands, tail=tails)
def test_bytes_after_the_last_whole_command_are_damage(file: Path, whole: bytes, tail: bytes) -> None:
    file.write_bytes(whole + tail)
    damage = find_damage(file)
    assert damage is not None
    assert (damage.good, damage.size, damage.in_the_middle) == (len(whole), len(whole + tail), False)


@settings(deadline=None)
@given(before=commands, tail=st.one_of(zeros, garbage), after=commands)
def test_damage_before_whole_commands_is_in_the_middle(
    file: Path, before: bytes, tail: bytes, after: bytes
) -> None:
    file.write_bytes(before + tail + SET + after)
    damage = find_damage(file)
    assert damage is not None
    assert damage.good == len(before)
    assert damage.in_the_middle


def test_a_wrong_length_in_the_middle_is_not_a_cut_off_command(file: Path) -> None:
    file.write_bytes(SET + SET.replace(b"$26", b"$9000000") + SET * 3)
    damage = find_damage(file)
    assert damage is not None
    assert (damage.good, damage.in_the_middle) == (len(SET), True)


def test_the_damaged_file_is_copied_before_its_end_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof.1.incr.aof"
    file.write_bytes(SET + bytes(100))
    damage = find_damage(file)
    assert damage is not None
    copy = cut_off(damage)
    assert (file.read_bytes(), copy.read_bytes()) == (SET, SET + bytes(100))
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent == file.parent
    assert find_damage(file) is None


def test_the_last_file_of_the_manifest_is_the_current_one(tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    assert last_file(tmp_path) is None
    names = [("base.rdb", 9, "b"), ("incr.aof", 9, "i"), ("incr.aof", 10, "i"), ("incr.aof", 8, "h")]
    lines = [
        f"file appendonly.aof.{number}.{name} seq {number} type {kind}\n" for name, number, kind in names
    ]
    (folder / "appendonly.aof.manifest").write_text("".join(lines))
    assert last_file(tmp_path) == folder / "appendonly.aof.10.incr.aof"
