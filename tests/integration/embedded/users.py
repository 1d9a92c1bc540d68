"""Users of an embedded PostgreSQL: objects of this process, and other processes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from jitway.embedded import EmbeddedPostgreSQL

SOON_S = 30.0

# Uses the server until its standard input closes, or until it is killed.
USER = """
import asyncio, json, sys
from pathlib import Path
import structlog
from jitway.embedded import EmbeddedPostgreSQL

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    server = EmbeddedPostgreSQL(Path(sys.argv[1]), durable=False, state_dir=Path(sys.argv[2]))
    url = await server.start()
    print(json.dumps({"url": url, "pid": server.pid, "attached": server.is_attached}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()

asyncio.run(main())
"""


def another(place: Path, **given: Any) -> EmbeddedPostgreSQL:
    options = {"durable": False, "state_dir": place / "state", **given}
    return EmbeddedPostgreSQL(place / "data", **options)


async def ask(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url, timeout=SOON_S)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON_S):
        while not holds():
            await asyncio.sleep(0.01)


def is_running(pid: int | None) -> bool:
    assert pid is not None
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def spawn(place: Path) -> asyncio.subprocess.Process:
    command = [sys.executable, "-c", USER, str(place / "data"), str(place / "state")]
    return await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


@asynccontextmanager
async def another_process(
    place: Path,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    child = await spawn(place)
    try:
        assert child.stdout is not None
        yield child, json.loads(await asyncio.wait_for(child.stdout.readline(), SOON_S))
    finally:
        if child.returncode is None:
            assert child.stdin is not None
            child.stdin.close()
            await asyncio.wait_for(child.wait(), SOON_S)
