"""MongoDB over TLS by `tlsCAFile`: the certificate and the host name are checked."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.errors import ArchiveUnavailable
from tests.integration.private_mongodb import private_mongodb
from tests.integration.tcp_front import TcpFront
from tests.servers.certificates import Certificates, make_certificates


class TlsMongoDB(NamedTuple):
    """A server that speaks TLS on this port."""

    port: int
    certificates: Certificates

    def uri(self, host: str = "localhost", ca: Path | None = None) -> str:
        # The server calls itself by its address, which no certificate names; so no discovery.
        options = f"directConnection=true&tls=true&tlsCAFile={ca or self.certificates.ca}"
        return f"mongodb://{host}:{self.port}/?{options}"


@pytest.fixture(scope="module", params=["its own TLS", "a relay that ends TLS"])
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TlsMongoDB]:
    certificates = make_certificates(tmp_path_factory.mktemp("tls"), host="localhost")
    if request.param == "its own TLS":
        async with private_mongodb(certificates=certificates) as native:
            yield TlsMongoDB(native.port, certificates)
        return
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    async with private_mongodb() as plain, TcpFront(plain.port, tls=tls) as front:
        yield TlsMongoDB(front.port, certificates)


@contextlib.asynccontextmanager
async def adapter_at(uri: str, *, timeout_ms: int = 10_000) -> AsyncIterator[MongoDBAdapter]:
    adapter = MongoDBAdapter({"MONGODB_URI": uri, "MONGODB_DB": "tls"}, timeout_ms=timeout_ms)
    try:
        yield adapter
    finally:
        await adapter.close()


async def test_a_certificate_of_the_given_authority_is_accepted(server: TlsMongoDB) -> None:
    async with adapter_at(server.uri()) as adapter:
        await adapter.connect()
        await adapter.insert_one("c", {"_id": 1})
        assert await adapter.find("c") == [{"_id": 1}]


async def test_a_wrong_host_name_is_refused(server: TlsMongoDB) -> None:
    async with adapter_at(server.uri("127.0.0.1"), timeout_ms=2000) as adapter:
        with pytest.raises(ArchiveUnavailable, match="certificate that is not accepted") as told:
            await adapter.connect()
    assert "MONGODB_URI" in str(told.value)


async def test_an_unknown_authority_is_refused(server: TlsMongoDB, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path, host="localhost")
    for uri in (server.uri(ca=stranger.ca), server.uri().partition("&tlsCAFile")[0]):
        async with adapter_at(uri, timeout_ms=2000) as adapter:
            with pytest.raises(ArchiveUnavailable, match="tlsCAFile"):
                await adapter.connect()


async def test_no_tls_to_a_port_with_it_fails_in_time(server: TlsMongoDB) -> None:
    uri = f"mongodb://localhost:{server.port}/?directConnection=true"
    async with adapter_at(uri, timeout_ms=1000) as adapter:
        with pytest.raises(ArchiveUnavailable, match=r"TLS|did not answer in time"):
            await adapter.connect()
