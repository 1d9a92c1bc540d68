"""`work.py`: `jitway work` as a process: logs, signals, exit code.

A second SIGTERM exits at once. When it cannot start: exit 1 and one sentence.
"""

import asyncio
import os
import signal
import sys

import click
import uvloop

from jitway.cli.logs import LineWriter, configure
from jitway.compose import Role, services
from jitway.errors import JitwayError
from jitway.settings import Settings
from jitway.worker import load_consumers, work

FAILED = 1


def work_until_stopped(settings: Settings, *, role: Role, modules: tuple[str, ...]) -> int:
    """Moves events until SIGTERM or SIGINT.

    Args:
        settings: of this process.
        role: the relay, the consumers, or both.
        modules: where consumers of others are.

    Returns:
        The exit code: 0 after a signal, 1 when it could not start.
    """
    lines = configure(level=settings.log_level, form=settings.log_format)
    try:
        consumers = [one for module in modules for one in load_consumers(module)]

        async def run() -> None:
            stopping = _catch_signals(lines)
            async with services(settings, role=role, consumers=consumers) as running:
                await work(running.work, stopping, announce=_say)

        uvloop.run(run())
    except JitwayError as error:
        click.echo(f"jitway: {' '.join(str(error).split())}", err=True)
        return FAILED
    finally:
        lines.close()
    return 0


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


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
