"""The Python in the documentation runs, and prints what stands behind its lines.

`docs/library.md` is one session, block after block; each block of the README stands alone, and is
five lines. A comment behind `print(...)` is what it prints; `...` in it stands for anything.
"""

import ast
import contextlib
import inspect
import io
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.adapters.rabbitmq import QueueSpec
from jitway.adapters.rabbitmq.topology import GUIDE_TOPOLOGY
from tests.integration.http.gateway import Gateway, serving
from tests.integration.private_redis import private_redis
from tests.integration.rabbitmq_scenes import remove
from tests.servers.rabbitmq import RabbitMQServer
from tests.service_skips import require_service

pytest_plugins = ["tests.integration.rabbitmq_fixtures"]

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "docs" / "library.md"
README = ROOT / "README.md"
PARTS = {
    "PostgreSQLAdapter",
    "MongoDBAdapter",
    "RedisAdapter",
    "MessageQueueManager",
    "DatabaseManager",
}
DATABASE = "jitway_docs"


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


def expectations(block: str) -> list[str]:
    """What the block prints, line by line, as its comments have it."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)


def fits(printed: str, expected: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, printed) is not None


async def play(block: str, names: dict[str, Any]) -> list[str]:
    """Runs a block as the asyncio prompt would; the lines that it printed."""
    code: CodeType = compile(block, "docs", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ended = eval(code, names)
        if inspect.isawaitable(ended):
            await ended
    return said.getvalue().splitlines()


def check(block: str, printed: list[str]) -> None:
    expected = expectations(block)
    assert block.count("print(") == len(expected), "each print says what it prints"
    assert len(printed) == len(expected), f"printed {printed}"
    for one, wanted in zip(printed, expected, strict=True):
        assert fits(one, wanted), f"printed {one}, and the docs say {wanted}"


@pytest.fixture
async def services(
    database: str, private_broker: RabbitMQServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """The guide's five variables in the environment, each service as good as new."""
    mongodb_uri = require_service("mongodb")
    fraud = QueueSpec("fraud-queue", ("jit-funding.*",))
    # The same process closes what an example that failed left open; the next one begins afresh.
    await remove(private_broker.url, GUIDE_TOPOLOGY.with_queue(fraud))
    async with private_redis() as redis:
        monkeypatch.setenv("DATABASE_URL", database)
        monkeypatch.setenv("MONGODB_URI", mongodb_uri)
        monkeypatch.setenv("MONGODB_DB", DATABASE)
        monkeypatch.setenv("REDIS_URL", redis.url)
        monkeypatch.setenv("RABBITMQ_URL", private_broker.url)
        try:
            yield
        finally:
            mongodb = MongoDBAdapter(mongodb_uri=mongodb_uri, mongodb_db=DATABASE)
            await mongodb.delete_many("receipts", {})
            await mongodb.close()
            await remove(private_broker.url, GUIDE_TOPOLOGY.with_queue(fraud))


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway to call, on the ledger of the test."""
    async with serving(database, tmp_path, furnished=False) as gateway:
        yield gateway


def test_the_readme_shows_each_part_in_five_lines() -> None:
    shown = {re.search(r"from jitway import (\w+)", block)[1] for block in blocks(README)}  # type: ignore[index]
    assert shown == PARTS
    for block in blocks(README):
        assert len(block.splitlines()) == 5, block


def test_the_library_page_shows_every_public_name_of_the_parts() -> None:
    text = "\n".join(blocks(LIBRARY))
    for name in (*PARTS, "health_router", "initialize_health_routes"):
        assert re.search(rf"^from jitway import .*\b{name}\b", text, re.MULTILINE), name


@pytest.mark.parametrize("block", blocks(README), ids=lambda block: block.split()[6])
async def test_a_block_of_the_readme_runs(block: str, services: None) -> None:
    check(block, await play(block, {}))


async def test_the_library_page_is_a_session_that_runs(
    services: None, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JITWAY_URL", f"http://127.0.0.1:{gateway.port}")
    monkeypatch.setenv("JITWAY_KEY", gateway.key)
    names: dict[str, Any] = {}
    for block in blocks(LIBRARY):
        check(block, await play(block, names))


@pytest.mark.parametrize(
    ("printed", "expected", "is_so"),
    [
        ("[1]", "[1]", True),
        ("[1]", "[2]", False),
        ("{'_id': 7, 'n': 1}", "{'_id': ..., 'n': 1}", True),
        ("{'_id': 7, 'n': 2}", "{'_id': ..., 'n': 1}", False),
    ],
)
def test_a_wrong_comment_would_be_found(printed: str, expected: str, is_so: bool) -> None:
    assert fits(printed, expected) is is_so
    block = f"print(x)  # {expected}\n"
    outcome: Callable[[], Any] = lambda: check(block, [printed])  # noqa: E731
    if is_so:
        outcome()
    else:
        with pytest.raises(AssertionError, match="the docs say"):
            outcome()
