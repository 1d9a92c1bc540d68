"""`serve.py`: the server in our own process, and an end that loses nothing.

    bind -> stores opened -> listen
    SIGTERM -> not ready, answers end their connections -> listeners closed -> requests in flight
    answered -> batches drained -> stores closed -> embedded PostgreSQL stopped -> exit 0

SIGTERM before it serves ends it too; a second one exits at once, with 1. When it cannot start: exit
1 and one sentence. With several workers each of them does this under a supervisor (`workers.py`).
"""

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import click
import structlog
import uvloop

from jitway.cli.logs import LineWriter, configure
from jitway.compose import Services, services
from jitway.errors import JitwayError
from jitway.settings import Settings
from jitway.supervisor import Crew
from jitway.web.app import Application
from jitway.web.server import HttpServer
from jitway.web.tls import Certificate

FAILED = 1
BACKLOG = 2048
# Beyond the decision budget: what other requests under way may still take.
GRACE_S = 2.0
# The workers of a supervisor that was killed need a moment to leave the address.
BIND_PATIENCE_S = 2.0
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
        return cannot_start(str(error))
    except OSError as error:
        return cannot_start(f"{error.strerror or error}")
    finally:
        lines.close()
    return 0


async def _serve(settings: Settings, lines: LineWriter) -> None:
    stopping = catch_signals(lines)
    listener = await bind(settings.host, settings.port)
    try:
        await serve_on(
            listener, settings, stopping=stopping, announce=lambda: tell_address(listener, settings)
        )
    finally:
        listener.close()


async def serve_on(
    listener: socket.socket,
    settings: Settings,
    *,
    stopping: asyncio.Event,
    announce: Callable[[], None],
    crew: Crew | None = None,
) -> None:
    """Serves on a socket until `stopping` is set; before it serves, that ends the start.

    Args:
        listener: bound.
        settings: of this process.
        stopping: set by whoever ends it.
        announce: called once when it serves.
        crew: the workers of this gateway, when there are several.

    Raises:
        JitwayError, OSError: it cannot start.
    """
    started = asyncio.Event()
    work = _serve_until(listener, settings, started, stopping, announce=announce, crew=crew)
    serving = asyncio.create_task(work, name="serve")
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait((serving, signalled), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not started.is_set():
        # Nobody was served yet: a start that waits or recovers need not be waited for.
        serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def _serve_until(
    listener: socket.socket,
    settings: Settings,
    started: asyncio.Event,
    stopping: asyncio.Event,
    *,
    announce: Callable[[], None],
    crew: Crew | None,
) -> None:
    certificate = _certificate(settings)
    async with services(settings) as running:
        application = Application(replace(running, crew=crew))
        server = HttpServer(application.answer, application.limits, valve=application.valve)
        try:
            await application.start()
            # The collector's longest pause comes before anybody waits for an answer.
            _spare_the_collector()
            # Not before: who connects to a gateway that starts would wait, give up, and be
            # approved for nothing when it serves at last.
            await server.start(
                listener,
                shares=crew.shares if crew is not None else None,
                tls=certificate.context if certificate is not None else None,
            )
            if certificate is not None:
                certificate.watch()
            if crew is not None:
                crew.serve(families=application.families, profile=running.profiler.profile)
            announce()
            started.set()
            await stopping.wait()
            await _drain(application, server, running, is_orphaned=bool(crew and crew.is_orphaned))
        finally:
            if certificate is not None:
                certificate.close()
            if crew is not None:
                await crew.rest()
            await server.stop(grace_s=0)
            await application.stop()


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _spare_the_collector() -> None:
    """Garbage of requests has no cycles and goes without the collector, which is to look rarely.

    What stands now stays, so it is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


async def _drain(
    application: Application, server: HttpServer, running: Services, *, is_orphaned: bool
) -> None:
    """Serves on until everybody has been told to go, then answers what is under way.

    Without its supervisor a worker serves nobody else: the address is the next one's.
    """
    _log.info("draining", connections=len(server.connections))
    application.draining = True
    server.drain()
    if not is_orphaned:
        await asyncio.sleep(running.settings.drain_s)
    await server.stop(grace_s=grace_s(running.settings))
    await running.authorizer.drain()


def grace_s(settings: Settings) -> float:
    """How long requests under way may take at the end, in seconds."""
    return settings.decision_budget_ms / 1000 + GRACE_S


def catch_signals(lines: LineWriter, at_once: Callable[[], None] | None = None) -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; the second one ends this process at once.

    Args:
        lines: of the log.
        at_once: called before that.
    """
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            if at_once is not None:
                at_once()
            lines.close()
            os._exit(FAILED)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


async def bind(host: str, port: int) -> socket.socket:
    """A socket of our own at this address, which does not listen yet.

    Raises:
        OSError: with one sentence.
    """
    patience_until = time.monotonic() + BIND_PATIENCE_S
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < patience_until:
                await asyncio.sleep(0.05)
                continue
            raise OSError(
                error.errno,
                f"cannot listen on {host} port {port} ({error.strerror or error}): stop what "
                "listens there, or choose another HOST and PORT",
            ) from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[0][4])
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener


def tell_address(listener: socket.socket, settings: Settings) -> None:
    """Prints the one line that says where it serves."""
    scheme = "http" if settings.tls_cert is None else "https"
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"jitway serves at {scheme}://{shown}:{port}")
    sys.stdout.flush()


def cannot_start(sentence: str) -> int:
    """Prints why it cannot start; returns the exit code."""
    click.echo(f"jitway: {' '.join(sentence.split())}", err=True)
    return FAILED
