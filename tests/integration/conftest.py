"""What the tests of verbs share."""

from collections.abc import AsyncIterator

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from tests.world import World


@pytest.fixture
async def world(adapter: PostgreSQLAdapter) -> AsyncIterator[World]:
    """A program with one card on an empty account, on a ledger of its own."""
    async with World(adapter) as world:
        yield world
