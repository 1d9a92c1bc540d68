"""One gateway for the tests that leave nothing behind, and one for each that does."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from tests.integration.http.gateway import Gateway, serving

_numbers = count(1)


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on a ledger of its own."""
    async with serving(database, tmp_path) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def shared(
    server: PostgreSQLAdapter,
    server_url: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Gateway]:
    """One gateway for all tests of a file."""
    name = f"{template}_http_{next(_numbers)}"
    await server.execute_query(f"CREATE DATABASE {name} TEMPLATE {template}")
    parts = urlsplit(server_url)
    url = f"{parts.scheme}://{parts.netloc}/{name}{'?' if parts.query else ''}{parts.query}"
    try:
        directory = tmp_path_factory.mktemp("http")
        async with serving(url, directory, JITWAY_EXPIRY_SWEEP_S="3600") as gateway:
            yield gateway
    finally:
        await server.execute_query(f"DROP DATABASE {name} WITH (FORCE)")
