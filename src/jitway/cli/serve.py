"""`serve.py`: the server in our own process, and an end that loses nothing.

    bind -> stores opened -> listen
    SIGTERM -> not ready, answers end their connections -> listeners closed -> requests in flight
    answered -> batches drained -> stores closed -> embedded PostgreSQL stopped -> exit 0

SIGTERM before it serves ends it too; a second one exits at once, with 1. When it cannot start: exit
1 and one sentence.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress

import click
import structlog
import uvloop

from jitway.cli.logs import LineWriter, configure
from jitway.compose import Services, services
from jitway.errors import JitwayError
from jitway.settings import Settings
from jitway.web.app import Application
from jitway.web.reader import EdgeLimits
from jitway.web.server import HttpServer

FAILED = 1
BACKLOG = 2048
# Beyond the decision budget: what other requests under way may still take.
GRACE_S = 2.0
# Objects that may be there for nothing before the youngest are looked at, and how often that until
# the older ones are; Python's own figures cost a twelfth of the gateway's processor time.
GARBAGE_THRESHOLDS = (20_000, 20, 100)

_log = structlog.get_logger("jitway.serve")


def serve_until_stopped(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        settings: of this process.

    Returns:
        The exit code: 0 after a signal, 1 when it could not start.
    """
    lines = configure(level=settings.log_level, form=settings.log_format)
    try:
        uvloop.run(_serve(settings, lines))
    except JitwayError as error:
        return _cannot_start(str(error))
    except OSError as error:
        return _cannot_start(f"{error.strerror or error}")
    finally:
        lines.close()
    return 0


async def _serve(settings: Settings, lines: LineWriter) -> None:
    stopping = _catch_signals(lines)
    started = asyncio.Event()
    serving = asyncio.create_task(_serve_on(settings, started, stopping), name="serve")
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait((serving, signalled), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not started.is_set():
        # Nobody was served yet: a start that waits or recovers need not be waited for.
        serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def _serve_on(settings: Settings, started: asyncio.Event, stopping: asyncio.Event) -> None:
    listener = _bind(settings.host, settings.port)
    try:
        async with services(settings) as running:
            application = Application(running)
            server = HttpServer(application.answer, _limits(settings))
            try:
                await application.start()
                # Not before: who connects to a gateway that starts would wait, give up, and be
                # approved for nothing when it serves at last.
                await server.start(listener)
                _spare_the_collector()
                click.echo(f"jitway serves at {_address(listener)}")
                sys.stdout.flush()
                started.set()
                await stopping.wait()
                await _drain(application, server, running)
            finally:
                await server.stop(grace_s=0)
                await application.stop()
    finally:
        listener.close()


def _spare_the_collector() -> None:
    """Garbage of requests has no cycles and goes without the collector, which is to look rarely.

    What stands now stays, so it is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


async def _drain(application: Application, server: HttpServer, running: Services) -> None:
    """Serves on until everybody has been told to go, then answers what is under way."""
    _log.info("draining", connections=len(server.connections))
    application.draining = True
    server.drain()
    await asyncio.sleep(running.settings.drain_s)
    await server.stop(grace_s=running.settings.decision_budget_ms / 1000 + GRACE_S)
    await running.authorizer.drain()


def _limits(settings: Settings) -> EdgeLimits:
    return EdgeLimits(
        body_bytes_max=settings.body_bytes_max, body_s=settings.body_timeout_s, backlog=BACKLOG
    )


def _catch_signals(lines: LineWriter) -> asyncio.Event:
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            lines.close()
            os._exit(FAILED)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


def _bind(host: str, port: int) -> socket.socket:
    """A socket of our own at this address, which does not listen yet.

    Raises:
        OSError: with one sentence.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[0][4])
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot listen on {host} port {port} ({error.strerror or error}): stop what listens "
            "there, or choose another HOST and PORT",
        ) from error
    listener.setblocking(False)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _cannot_start(sentence: str) -> int:
    click.echo(f"jitway: {' '.join(sentence.split())}", err=True)
    return FAILED
