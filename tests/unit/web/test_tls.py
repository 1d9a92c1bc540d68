"""HTTPS of our own: what it speaks, how it ends, and a certificate that is renewed under way."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from jitway.errors import SettingsError
from jitway.web.exchange import Reply, Request
from jitway.web.reader import EdgeLimits
from jitway.web.server import HttpServer
from jitway.web.tls import Certificate
from tests.servers.certificates import Certificates, make_certificates
from tests.unit.web.test_server import GET, LAST, hang_up, one_answer


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


async def echo(request: Request) -> Reply:
    return Reply(200, [], request.target + request.body)


@contextlib.asynccontextmanager
async def secured(
    certificate: Certificate, limits: EdgeLimits | None = None
) -> AsyncIterator[tuple[HttpServer, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = HttpServer(echo, limits or EdgeLimits(first_byte_s=0.3, keep_alive_s=0.3))
    await server.start(listener, tls=certificate.context)
    try:
        yield server, listener.getsockname()[1]
    finally:
        await server.stop(grace_s=1)
        certificate.close()
        listener.close()


def trusting(files: Certificates, *, at_most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    if at_most is not None:
        context.minimum_version = context.maximum_version = at_most
    return context


async def connect(
    port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        return await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )


async def test_requests_over_tls_and_a_clean_end(files: Certificates) -> None:
    async with secured(Certificate(files.certificate, files.key)) as (server, port):
        reader, writer = await connect(port, trusting(files))
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() in {None, "http/1.1"}
        writer.write(GET % 1 + GET % 2)
        assert (await one_answer(reader)).endswith(b"/1")
        assert (await one_answer(reader)).endswith(b"/2")
        writer.write(LAST)
        async with asyncio.timeout(10):
            assert (await reader.read()).endswith(b"/last")
        await hang_up(writer)
        # An idle one ends by its deadline, as on a plain connection.
        reader, writer = await connect(port, trusting(files))
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        await hang_up(writer)
        async with asyncio.timeout(10):
            while server.connections:
                await asyncio.sleep(0.01)


async def test_a_bad_request_over_tls_is_answered_before_the_end(files: Certificates) -> None:
    async with secured(Certificate(files.certificate, files.key)) as (_, port):
        reader, writer = await connect(port, trusting(files))
        writer.write(b"\x00\x00\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        await hang_up(writer)


async def test_old_versions_and_plain_text_are_refused(files: Certificates) -> None:
    certificate = Certificate(files.certificate, files.key)
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2
    async with secured(certificate) as (_, port):
        _, writer = await connect(port, trusting(files, at_most=ssl.TLSVersion.TLSv1_2))
        await hang_up(writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET % 1)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                assert b"HTTP" not in await reader.read()
        await hang_up(writer)


@pytest.mark.parametrize("limits", [{"per_address_max": 2}, {"connections_max": 2}])
async def test_who_is_silent_takes_no_more_than_who_speaks(
    files: Certificates, limits: dict[str, int]
) -> None:
    certificate = Certificate(files.certificate, files.key)
    async with secured(certificate, EdgeLimits(**limits)) as (server, port):  # type: ignore[arg-type]
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        ends = [asyncio.create_task(reader.read()) for reader, _ in silent]
        waiting = set(ends)
        async with asyncio.timeout(4):  # sooner than a handshake is given up
            while len(waiting) > 2:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(waiting) == 2
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect(port, trusting(files))
        for _, writer in silent:
            await hang_up(writer)
        await asyncio.gather(*ends, return_exceptions=True)
        async with asyncio.timeout(10):
            while server.sources:
                await asyncio.sleep(0.01)
        # Two fit, one after the other is counted once, and a third does not.
        spoken = [await connect(port, trusting(files)) for _ in range(2)]
        for reader, writer in spoken:
            writer.write(GET % 1)
            assert (await one_answer(reader)).endswith(b"/1")
        assert list(server.sources.values()) == [2]
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect(port, trusting(files))
        for _, writer in spoken:
            await hang_up(writer)
        async with asyncio.timeout(10):
            while server.sources or server.connections:
                await asyncio.sleep(0.01)


async def test_handshakes_that_fail_are_a_line_a_second(files: Certificates) -> None:
    certificate = Certificate(files.certificate, files.key)
    with structlog.testing.capture_logs() as lines:
        async with secured(certificate) as (server, port):
            began = time.monotonic()
            for _ in range(40):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(GET % 1)
                with contextlib.suppress(ConnectionError):
                    async with asyncio.timeout(10):
                        await reader.read()
                await hang_up(writer)
            took_s = time.monotonic() - began
            async with asyncio.timeout(10):
                while server.sources:
                    await asyncio.sleep(0.01)
    told = [line for line in lines if line["event"] == "connection_not_opened"]
    assert 1 <= len(told) <= took_s + 2


async def test_a_server_that_ends_waits_for_no_silent_handshake(files: Certificates) -> None:
    certificate = Certificate(files.certificate, files.key)
    async with secured(certificate, EdgeLimits()) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            while not server.sources:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(4):  # sooner than a handshake is given up
            await server.stop(grace_s=0)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert not server.sources
        await hang_up(writer)


async def test_a_renewed_certificate_is_shown_without_a_restart(
    files: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    renewed = make_certificates(tmp_path / "new")
    certificate = Certificate(files.certificate, files.key, look_s=0.02)
    async with secured(certificate) as (_, port):
        certificate.watch()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, trusting(renewed))
        # Half of it alone does not belong together, and is not used.
        os.replace(renewed.certificate, files.certificate)
        await asyncio.sleep(0.1)
        _, writer = await connect(port, trusting(files))
        await hang_up(writer)
        os.replace(renewed.key, files.key)
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ssl.SSLCertVerificationError):
                    _, writer = await connect(port, trusting(renewed))
                    break
                await asyncio.sleep(0.02)
        await hang_up(writer)


def test_files_that_cannot_be_used_are_named(files: Certificates, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    for certificate, key in (
        (files.certificate, other.key),
        (files.ca, tmp_path / "nothing"),
        (files.key, files.key),
    ):
        with pytest.raises(SettingsError, match=r"JITWAY_TLS_CERT .* and JITWAY_TLS_KEY"):
            Certificate(certificate, key)


def test_serve_says_in_one_sentence_what_is_wrong(files: Certificates, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    command = [sys.executable, "-m", "jitway", "serve", "--port", "0"]
    for more in (
        ["--tls-cert", str(files.certificate)],
        ["--tls-cert", str(files.certificate), "--tls-key", str(other.key)],
    ):
        done = subprocess.run(
            [*command, *more],
            env={"HOME": str(tmp_path), "JITWAY_ENV_FILE": os.devnull},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "JITWAY_TLS_KEY" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
