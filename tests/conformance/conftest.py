"""One suite for each seam, run on every implementation of it."""

from collections.abc import AsyncIterator

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.events.broker import Broker
from tests.conformance.brokers import KINDS, Place, connected


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, adapter: PostgreSQLAdapter) -> AsyncIterator[Place]:
    """Where the broker of this kind is; cleared afterwards."""
    place = Place(request.param, adapter)
    yield place
    await place.clear()


@pytest.fixture
async def broker(place: Place) -> AsyncIterator[Broker]:
    """One process's broker."""
    async with connected(place) as broker:
        yield broker
