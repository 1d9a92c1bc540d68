"""`workers.py`: `jitway serve --workers N`: one supervisor, N processes that serve, one port.

    bind -> embedded PostgreSQL -> workers -> `jitway serves at` once all of them do
    SIGTERM -> each worker drains as one alone would -> PostgreSQL stopped -> exit 0

The supervisor binds once and hands the socket on; a worker obeys nobody else, and ends when its
supervisor does. A second SIGTERM kills the workers and exits with 1.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import structlog
import uvloop

from jitway.cli.logs import LineWriter, configure
from jitway.cli.serve import (
    FAILED,
    bind,
    cannot_start,
    catch_signals,
    grace_s,
    serve_on,
    tell_address,
)
from jitway.compose.shared_ledger import settings_of, shared_ledger
from jitway.errors import JitwayError, StoreUnavailable, WorkerFailed
from jitway.settings import Settings
from jitway.supervisor import Crew, Supervisor
from jitway.supervisor.crew import end_with_supervisor
from jitway.supervisor.line import Line, first_message
from jitway.supervisor.messages import Brief
from jitway.supervisor.shares import Shares

# Beyond what requests may take: batches, relays and stores have limits of their own.
CLOSE_S = 15.0

_log = structlog.get_logger("jitway.workers")


def supervise_until_stopped(settings: Settings) -> int:
    """Keeps the workers serving until SIGTERM or SIGINT.

    Args:
        settings: of this process; `workers` says how many.

    Returns:
        The exit code: 0 after a signal, 1 when it could not start, or not keep them.
    """
    lines = configure(level=settings.log_level, form=settings.log_format)
    try:
        return asyncio.run(_supervise(settings, lines))
    except JitwayError as error:
        return cannot_start(str(error))
    except OSError as error:
        return cannot_start(f"{error.strerror or error}")
    finally:
        lines.close()


async def _supervise(settings: Settings, lines: LineWriter) -> int:
    supervisors: list[Supervisor] = []

    def kill() -> None:
        for one in supervisors:
            one.kill()

    stopping = catch_signals(lines, kill)
    listener = await bind(settings.host, settings.port)
    try:
        work = asyncio.create_task(_keep(settings, listener, stopping, supervisors))
        signalled = asyncio.create_task(stopping.wait())
        await asyncio.wait((work, signalled), return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
        if not supervisors:
            # Nothing but the ledger was started: it need not be waited for.
            work.cancel()
        with suppress(asyncio.CancelledError):
            return await work
        return 0
    finally:
        listener.close()


async def _keep(
    settings: Settings,
    listener: socket.socket,
    stopping: asyncio.Event,
    supervisors: list[Supervisor],
) -> int:
    async with shared_ledger(settings) as shared:
        supervisor = Supervisor(
            # Not from the working directory: what lies there is not ours.
            [sys.executable, "-P", "-m", "jitway.cli.workers"],
            lambda number: _encoded(settings_of(number, shared)),
            listener,
            workers=settings.workers,
        )
        supervisors.append(supervisor)
        ended_well = True
        try:
            await _until_stopped(supervisor, listener, stopping, settings=settings)
        finally:
            timeout_s = settings.drain_s + grace_s(settings) + CLOSE_S
            ended_well = await supervisor.stop(timeout_s=timeout_s)
        return 0 if ended_well else FAILED


async def _until_stopped(
    supervisor: Supervisor,
    listener: socket.socket,
    stopping: asyncio.Event,
    *,
    settings: Settings,
) -> None:
    """Starts the workers and returns when they are to end.

    Raises:
        WorkerFailed: they cannot be started, or not be kept.
    """
    told = asyncio.ensure_future(stopping.wait())
    starting = asyncio.ensure_future(supervisor.start())
    try:
        await asyncio.wait((told, starting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        await starting
        tell_address(listener, settings)
        ends: set[asyncio.Future[Any]] = {told, supervisor.broken}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.broken.done():
            raise WorkerFailed(supervisor.broken.result())
    finally:
        told.cancel()
        starting.cancel()


def work_for_supervisor(supervisor: socket.socket, listener: socket.socket, shares: int) -> int:
    """Serves as one of several workers until the supervisor says so, or is gone.

    Args:
        supervisor: the socket to it.
        listener: bound, and shared with the others.
        shares: the descriptor of the memory with everybody's open connections.

    Returns:
        The exit code.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever wants the gateway to end tells the supervisor, who ends us in order.
        signal.signal(number, signal.SIG_IGN)
    try:
        brief = first_message(supervisor)
    except (OSError, ValueError):
        return FAILED
    assert isinstance(brief, Brief), "a worker is told first what it is started with"
    settings = _decoded(brief.settings)
    lines = configure(level=settings.log_level, form=settings.log_format, worker=brief.number)
    end_with_supervisor(supervisor)
    try:
        return uvloop.run(_work(brief, settings, supervisor, listener, shares))
    finally:
        lines.close()


async def _work(
    brief: Brief,
    settings: Settings,
    supervisor: socket.socket,
    listener: socket.socket,
    descriptor: int,
) -> int:
    shares = Shares(descriptor, workers=brief.workers, own=brief.number)
    crew = Crew(await Line.over(supervisor), brief.number, shares)
    try:
        await serve_on(listener, settings, stopping=crew.stopping, announce=lambda: None, crew=crew)
    except JitwayError as error:
        await crew.fail(str(error), may_pass=isinstance(error, StoreUnavailable))
        return FAILED
    finally:
        await crew.close()
        listener.close()
    return FAILED if crew.is_orphaned else 0


def _encoded(settings: Settings) -> bytes:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, Mapping):
            return dict(value)
        raise NotImplementedError(f"a setting of type {type(value).__name__}")

    return msgspec.msgpack.encode(settings, enc_hook=plain)


def _decoded(encoded: bytes) -> Settings:
    def read(kind: type, value: Any) -> Any:
        if kind is Path:
            return Path(value)
        if kind is MappingProxyType:
            return MappingProxyType(value)
        raise NotImplementedError(f"a setting of type {kind.__name__}")

    return msgspec.msgpack.decode(encoded, type=Settings, dec_hook=read)


if __name__ == "__main__":
    _supervisor, _listener, _shares = map(int, sys.argv[1:4])
    sys.exit(
        work_for_supervisor(
            socket.socket(fileno=_supervisor), socket.socket(fileno=_listener), _shares
        )
    )
