"""A gateway as a process, on an embedded PostgreSQL of its own, for tests that end it badly."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chaos.actions import Actions
from chaos.gateway import Gateway
from chaos.nemesis import Nemesis
from chaos.server import Server
from jitway.embedded import stop_left_behind
from tests.conftest import server_dir

# On a busy machine a decision may take seconds, and a test of something else must not fail for it.
PATIENT = {"JITWAY_DECISION_BUDGET_MS": "10000"}


@dataclass(frozen=True)
class House:
    """A data directory that is ready to be served, and the key to it."""

    data_dir: Path
    key: str
    actions: Actions
    gateways: list[Gateway] = field(default_factory=list)

    @property
    def server(self) -> Server:
        return Server(self.data_dir)

    def gateway(self, **settings: str) -> Gateway:
        """Another gateway on a port of its own; it is not started."""
        log = self.data_dir.parent / "gateway.log"
        self.gateways.append(Gateway(self.data_dir, log, {**PATIENT, **settings}))
        return self.gateways[-1]

    def nemesis(self, gateway: Gateway) -> Nemesis:
        return Nemesis(gateway, self.server, self.actions, random.Random(0))


@pytest.fixture(scope="session")
async def _house() -> AsyncIterator[House]:
    with server_dir() as directory:
        data_dir = directory / "data"
        gateway = Gateway(data_dir, directory / "init.log")
        await gateway.command("init")
        _, made = await gateway.command("keys", "create")
        actions = Actions(directory / "actions.jsonl")
        try:
            yield House(data_dir, made["key"], actions)
        finally:
            actions.close()
            await stop_left_behind(data_dir)


@pytest.fixture
async def house(_house: House) -> AsyncIterator[House]:
    """The house of all these tests; nobody is left in it when the next one begins."""
    yield _house
    while _house.gateways:
        await _house.gateways.pop().kill()
    await stop_left_behind(_house.data_dir)
    assert _house.server.left_behind() == []
