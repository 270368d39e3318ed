"""TLS to Postgres: trusted certificates work, and others are refused in a line with the fix."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from storage.database.engine import Database
from storage.errors import DatabaseUnavailableError
from tests.support.forwarder import Forwarder


@dataclass(frozen=True)
class Authorities:
    """Files of CAs."""

    known: Path
    other: Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Authorities:
    files = Authorities(tmp_path / "known.pem", tmp_path / "other.pem")
    authority.cert_pem.write_to_path(files.known)
    trustme.CA().cert_pem.write_to_path(files.other)
    return files


@pytest.fixture
async def encrypted(migrated_postgres_url: str, authority: trustme.CA) -> AsyncIterator[Forwarder]:
    """A proxy with a certificate for ``localhost``, since the wheel's Postgres is built without TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    forwarder = Forwarder(migrated_postgres_url, context)
    await forwarder.start()
    yield forwarder
    await forwarder.stop()


@pytest.fixture
async def plain(migrated_postgres_url: str) -> AsyncIterator[Forwarder]:
    """A Postgres without TLS."""
    forwarder = Forwarder(migrated_postgres_url)
    await forwarder.start()
    yield forwarder
    await forwarder.stop()


async def _is_encrypted(url: str) -> bool:
    database = Database(url)
    await database.start(timeout=0)
    connection = await database.dedicated_connection()
    encrypted = connection._protocol.is_ssl
    await connection.close()
    await database.close()
    return bool(encrypted)


async def _refusal(url: str) -> str:
    """The message of the error."""
    database = Database(url)
    with pytest.raises(DatabaseUnavailableError) as error:
        await database.start(timeout=0)
    await database.close()
    line = str(error.value)
    assert "\n" not in line
    assert "hidden" not in line
    assert line.startswith(database.safe_url)
    return line.removeprefix(database.safe_url)


@pytest.mark.parametrize(
    ("parameters", "host"),
    [
        ("sslmode=require", "127.0.0.1"),
        ("sslmode=require&sslrootcert={known}", "127.0.0.1"),
        ("sslmode=verify-ca&sslrootcert={known}", "127.0.0.1"),
        ("sslmode=verify-full&sslrootcert={known}", "localhost"),
        ("sslmode=require&sslaccept=strict&sslcert={known}", "localhost"),
        ("sslmode=require&sslaccept=accept_invalid_certs", "127.0.0.1"),
        ("sslmode=prefer", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
async def test_a_trusted_certificate_is_accepted(
    encrypted: Forwarder, files: Authorities, parameters: str, host: str
) -> None:
    assert await _is_encrypted(encrypted.url(parameters.format(known=files.known), host=host))


@pytest.mark.parametrize("parameters", ["sslrootcert=system", "sslaccept=strict"])
async def test_the_system_cas_are_used(
    encrypted: Forwarder, files: Authorities, parameters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = encrypted.url(parameters, host="localhost")
    assert "is refused: unable to get local issuer certificate: name the file" in await _refusal(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.known))
    assert await _is_encrypted(url)
    elsewhere = await _refusal(encrypted.url(parameters))
    assert "not valid for '127.0.0.1': write the host as the certificate does" in elsewhere


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full", "require"])
async def test_an_unknown_ca_is_refused_with_its_fix(
    encrypted: Forwarder, files: Authorities, mode: str
) -> None:
    line = await _refusal(encrypted.url(f"sslmode={mode}&sslrootcert={files.other}", host="localhost"))
    assert line.startswith(": its TLS certificate is refused: ")
    assert "sslrootcert=/path/ca.pem" in line


async def test_a_certificate_of_another_host_is_refused_with_its_fix(
    encrypted: Forwarder, files: Authorities
) -> None:
    line = await _refusal(encrypted.url(f"sslmode=verify-full&sslrootcert={files.known}"))
    assert "not valid for '127.0.0.1': write the host as the certificate does" in line


async def test_a_missing_ca_file_is_refused_with_its_fix(
    encrypted: Forwarder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    line = await _refusal(encrypted.url("sslmode=verify-full", host="localhost"))
    assert "sslrootcert=/path/ca.pem" in line


async def test_a_file_that_is_not_a_certificate_is_refused(encrypted: Forwarder, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    line = await _refusal(encrypted.url(f"sslmode=verify-ca&sslrootcert={tmp_path}/ca.pem"))
    assert line.startswith(": TLS fails: ")


async def test_a_server_without_tls_is_refused_with_its_fix(plain: Forwarder) -> None:
    assert "it speaks no TLS" in await _refusal(plain.url("sslmode=require"))
    assert not await _is_encrypted(plain.url("sslmode=prefer"))
