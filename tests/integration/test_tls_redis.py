"""`rediss://`: the certificate and the host name are checked."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jitway.adapters.redis import RedisAdapter
from jitway.errors import CacheUnavailable
from tests.integration.leaks import eventually
from tests.integration.private_redis import PrivateRedis, private_redis
from tests.integration.tcp_front import TcpFront
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.process import ServerMissing, free_port


class TlsRedis(NamedTuple):
    """A Redis that speaks TLS on one port and none on another."""

    port: int
    plain_port: int
    certificates: Certificates

    def url(self, host: str = "localhost", ca: Path | None = None) -> str:
        authority = f"?ssl_ca_certs={ca or self.certificates.ca}"
        return f"rediss://{host}:{self.port}/0{authority}"


@pytest.fixture(scope="module", params=["its own TLS", "a relay that ends TLS"])
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TlsRedis]:
    certificates = make_certificates(tmp_path_factory.mktemp("tls"), host="localhost")
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "its own TLS":
            port = free_port()
            redis = await stack.enter_async_context(native(port, certificates))
        else:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificates.certificate, certificates.key)
            redis = await stack.enter_async_context(private_redis())
            port = (await stack.enter_async_context(TcpFront(redis.port, tls=tls))).port
        yield TlsRedis(port, redis.port, certificates)


@contextlib.asynccontextmanager
async def native(port: int, certificates: Certificates) -> AsyncIterator[PrivateRedis]:
    options = {
        "--tls-port": str(port),
        "--tls-cert-file": str(certificates.certificate),
        "--tls-key-file": str(certificates.key),
        "--tls-ca-cert-file": str(certificates.ca),
        "--tls-auth-clients": "no",
    }
    try:
        async with private_redis(*(part for option in options.items() for part in option)) as redis:
            yield redis
    except ServerMissing as missing:
        if "tls" not in str(missing).lower():
            raise
        pytest.skip("this Redis is built without TLS; Debian's redis-server has it")


@contextlib.asynccontextmanager
async def adapter_at(url: str) -> AsyncIterator[RedisAdapter]:
    adapter = RedisAdapter({"REDIS_URL": url}, timeout_ms=2000, connect_timeout_ms=5000)
    try:
        yield adapter
    finally:
        await adapter.close()


async def test_a_certificate_of_the_given_authority_is_accepted(server: TlsRedis) -> None:
    async with adapter_at(server.url()) as adapter:
        await adapter.connect()
        assert await adapter.cache_user("1", {"name": "Ada"})
        assert await adapter.get_from_cache("user:1") == {"name": "Ada"}


async def test_the_feed_goes_over_tls_too(server: TlsRedis) -> None:
    told: list[object] = []
    async with adapter_at(server.url()) as adapter, contextlib.AsyncExitStack() as stack:
        task = asyncio.create_task(adapter.listen_for_invalidations(told.append))
        stack.push_async_callback(asyncio.wait_for, task, 2)
        stack.push_async_callback(adapter.close)
        await eventually(lambda: adapter.is_feed_synchronised)
        await adapter.evict("card:1")
        await eventually(lambda: ["card:1"] in told)


async def test_a_wrong_host_name_is_refused(server: TlsRedis) -> None:
    async with adapter_at(server.url("127.0.0.1")) as adapter:
        with pytest.raises(CacheUnavailable, match="certificate that is not accepted") as refused:
            await adapter.connect()
        assert "REDIS_URL" in str(refused.value)
        with pytest.raises(CacheUnavailable, match="certificate that is not accepted"):
            await adapter.get_counter("c")


async def test_an_unknown_authority_is_refused(server: TlsRedis, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path, host="localhost")
    for url in (server.url(ca=stranger.ca), server.url().partition("?")[0]):
        async with adapter_at(url) as adapter:
            with pytest.raises(CacheUnavailable, match="ssl_ca_certs"):
                await adapter.connect()


async def test_tls_to_a_port_without_it_says_so(server: TlsRedis) -> None:
    url = f"rediss://localhost:{server.plain_port}/0"
    adapter = RedisAdapter({"REDIS_URL": url}, connect_timeout_ms=200)
    with pytest.raises(CacheUnavailable, match=r"failed at TLS|does its port not speak TLS"):
        await adapter.connect()
    await adapter.close()


async def test_no_tls_to_a_port_with_it_says_so(server: TlsRedis) -> None:
    url = f"redis://localhost:{server.port}/0"
    async with adapter_at(url) as adapter:
        with pytest.raises(CacheUnavailable, match="does it want TLS"):
            await adapter.connect()
