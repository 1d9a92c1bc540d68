"""`sslmode=verify-full`: the server's certificate and host name are checked.

On the system's PostgreSQL, as the wheel's has no TLS.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.errors import JitwayError
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.postgresql import PostgreSQLServer, system_binaries
from tests.service_skips import REQUIRED


class TlsServer(NamedTuple):
    """A PostgreSQL that speaks TLS to who asks for it."""

    server: PostgreSQLServer
    certificates: Certificates

    def url(self, host: str = "localhost", *, ca: Path | None = None, mode: str) -> str:
        address = self.server.url.replace("@127.0.0.1:", f"@{host}:")
        return f"{address}?sslmode={mode}&sslrootcert={ca or self.certificates.ca}"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsServer]:
    binaries = system_binaries()
    if binaries is None:
        missing = "TLS needs the system's PostgreSQL: apt-get install postgresql"
        if REQUIRED:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    certificates = make_certificates(tmp_path_factory.mktemp("tls"), host="localhost")
    with tempfile.TemporaryDirectory(prefix="jitway-tls-") as directory:
        # Root's server runs as another user, who has to pass through.
        Path(directory).chmod(0o711)
        server = PostgreSQLServer(
            Path(directory) / "server", binaries=binaries, certificates=certificates
        )
        try:
            await asyncio.to_thread(server.start)
            yield TlsServer(server, certificates)
        finally:
            await asyncio.to_thread(server.stop)


async def refused(url: str) -> str:
    """Why a connection was refused."""
    postgres = PostgreSQLAdapter({"DATABASE_URL": url}, pool_size_min=1)
    try:
        with pytest.raises(JitwayError) as caught:
            await postgres.execute_query("SELECT 1")
    finally:
        await postgres.close()
    return str(caught.value)


async def test_queries_and_transactions_go_over_tls(server: TlsServer) -> None:
    postgres = PostgreSQLAdapter({"DATABASE_URL": server.url(mode="verify-full")}, pool_size_min=1)
    try:
        question = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        (row,) = await postgres.execute_query(question)
        assert row["ssl"]
        assert row["version"].startswith("TLSv1.")
    finally:
        await postgres.close()


async def test_a_wrong_host_name_is_refused(server: TlsServer) -> None:
    said = await refused(server.url("127.0.0.1", mode="verify-full"))
    assert "check sslmode and the certificates" in said
    assert server.server.url.split(":")[2].partition("@")[0] not in said


async def test_a_wrong_host_name_passes_where_only_the_authority_is_asked_for(
    server: TlsServer,
) -> None:
    postgres = PostgreSQLAdapter(
        {"DATABASE_URL": server.url("127.0.0.1", mode="verify-ca")}, pool_size_min=1
    )
    try:
        (row,) = await postgres.execute_query("SELECT 1 AS one")
        assert row["one"] == 1
    finally:
        await postgres.close()


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
async def test_another_authority_is_refused(server: TlsServer, tmp_path: Path, mode: str) -> None:
    other = make_certificates(tmp_path)
    said = await refused(server.url(ca=other.ca, mode=mode))
    assert "check sslmode and the certificates" in said


async def test_an_authority_file_that_is_missing_is_named(
    server: TlsServer, tmp_path: Path
) -> None:
    assert "gone.pem" in await refused(server.url(ca=tmp_path / "gone.pem", mode="verify-full"))
