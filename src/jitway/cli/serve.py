"""`serve.py`: the server in our own process, and an end that loses nothing.

    SIGTERM -> not ready, answers end their connections -> listeners closed -> requests in flight
    answered -> batches drained -> stores closed -> embedded PostgreSQL stopped -> exit 0

A second SIGTERM exits at once. When it cannot start: exit 1 and one sentence.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog
import uvicorn
import uvloop

from jitway.cli.logs import LineWriter, configure
from jitway.compose import services
from jitway.errors import JitwayError
from jitway.settings import Settings
from jitway.web.app import Application

FAILED = 1
BACKLOG = 2048
KEEP_ALIVE_S = 15
# A connection that shook hands before the listener closed must still be accepted.
LAST_ACCEPTS_S = 0.05
ANSWERS_S = 2

_log = structlog.get_logger("jitway.serve")


class Server(uvicorn.Server):
    """Uvicorn's server without its signals: ours come first, and exit 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


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
    listener = _listen(settings.host, settings.port)
    try:
        async with services(settings) as running:
            application = Application(running)
            await application.start()
            try:
                server = Server(_config(application))
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                click.echo(f"jitway serves at {_address(listener)}")
                sys.stdout.flush()
                await _first(stopping, serving)
                await _drain(application, server, serving, listener, settings.drain_s)
                await running.authorizer.drain()
            finally:
                await application.stop()
    finally:
        listener.close()


def _config(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        lifespan="off",
        interface="asgi3",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=ANSWERS_S,
    )


async def _drain(
    application: Application,
    server: Server,
    serving: "asyncio.Task[None]",
    listener: socket.socket,
    drain_s: float,
) -> None:
    """Serves on until everybody has been told to go, then answers what is under way."""
    _log.info("draining")
    application.draining = True
    await asyncio.wait([serving], timeout=drain_s)
    # No new handshakes, while those that are done are still accepted.
    listener.listen(0)
    await asyncio.wait([serving], timeout=LAST_ACCEPTS_S)
    server.should_exit = True
    await serving


async def _first(stopping: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    """Waits for a signal, or for a server that ended by itself."""
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait([signalled, serving], return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if serving.done() and not stopping.is_set():
        await serving


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


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, or a failure that says what to do.

    Raises:
        OSError: with one sentence.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[0][4])
        listener.listen(BACKLOG)
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
