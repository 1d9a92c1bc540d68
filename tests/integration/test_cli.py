"""The command line as its users meet it: processes, exit codes, one sentence when it fails."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cli.main import main
from jitway.embedded import running_url


class Machine:
    """A home and a data directory of its own, and `jitway` run there."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "JITWAY_DATA_DIR": str(self.data_dir),
            "JITWAY_ENV_FILE": os.devnull,
            "PORT": "0",
        }

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "jitway", *arguments],
            env=self.environment | environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def json(self, *arguments: str, **environ: str) -> Any:
        """What a command that succeeds prints as JSON."""
        done = self.run(*arguments, "--json", **environ)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def serving(self, **environ: str) -> Iterator["Serving"]:
        """`jitway serve`, ready; killed at the end if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "jitway", "serve"],
            env=self.environment | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("jitway serves at http://127.0.0.1:"), process.communicate()
            yield Serving(process, int(line.rpartition(":")[2]))
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=30)


class Serving:
    """A gateway that is a process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Signals it and waits; exit code, standard output and error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """One machine on which `jitway init` has run; `first` is what it printed."""
    # Short, because of the socket's path; open, because root's PostgreSQL runs as somebody else.
    directory = Path(tempfile.mkdtemp(prefix="jitway-"))
    directory.chmod(0o711)
    machine = Machine(directory)
    try:
        yield machine
    finally:
        machine.run("stop")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def key(machine: Machine) -> str:
    """The key that the first `init` made."""
    first = machine.json("init")
    assert set(first) >= {"key", "scopes", "database"}
    assert first["key"].startswith("jw_")
    assert {"authorize", "operate"} <= set(first["scopes"])
    assert first["database"] == "embedded"
    return str(first["key"])


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What an expected failure says: one line, no traceback, nothing on standard output."""
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("jitway: ")
    return line


def test_init_again_changes_nothing_and_says_so(machine: Machine, key: str) -> None:
    keys = machine.json("keys", "list")["data"]
    assert machine.json("init")["key"] is None
    assert "nothing was changed" in machine.run("init").stdout
    assert machine.run("migrate").stdout.strip() == "Nothing to apply."
    assert machine.json("keys", "list")["data"] == keys
    assert key not in json.dumps(keys)


def test_serve_while_others_look_and_then_end_in_order(machine: Machine, key: str) -> None:
    with machine.serving() as gateway:
        books = machine.json("verify")
        assert books["ok"] is True
        assert books["violations"] == []
        assert len(books["checked"]) > 10
        made = machine.json("keys", "create", "--scopes", "authorize")
        assert set(made) == {"id", "key"}
        assert machine.run("keys", "revoke", made["id"]).returncode == 0
        in_use = machine.run("stop")
        assert in_use.returncode == 1
        assert "running" in sentence(in_use)
        taken = machine.run("serve", "--port", str(gateway.port))
        assert taken.returncode == 1
        assert "choose another HOST and PORT" in sentence(taken)
        began = time.monotonic()
        code, out, err = gateway.end()
        assert time.monotonic() - began < 10
        assert (code, out) == (0, "")
        for line in err.splitlines():
            assert {"at", "level", "logger", "event"} <= set(json.loads(line))
    assert running_url(machine.data_dir) is None
    assert machine.run("stop").stdout.strip() == "Nothing was left behind."


def test_interrupt_ends_it_as_well(machine: Machine, key: str) -> None:
    with machine.serving() as gateway:
        assert gateway.end(signal.SIGINT)[0] == 0


def test_what_a_killed_gateway_left_behind_is_stopped(machine: Machine, key: str) -> None:
    with machine.serving() as gateway:
        gateway.end(signal.SIGKILL)
    assert running_url(machine.data_dir) is not None
    with machine.serving() as gateway:
        gateway.end(signal.SIGKILL)
    assert machine.run("stop").stdout.strip() == "Stopped the embedded PostgreSQL."
    assert running_url(machine.data_dir) is None
    assert machine.json("verify")["ok"] is True


def test_a_second_signal_ends_it_now(machine: Machine, key: str) -> None:
    with machine.serving(JITWAY_DRAIN_S="5") as gateway:
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.stderr is not None
        while "draining" not in gateway.process.stderr.readline():
            assert gateway.process.poll() is None
        began = time.monotonic()
        assert gateway.end()[0] == 1
        assert time.monotonic() - began < 4
    machine.run("stop")


async def test_ending_under_load_fails_no_request(machine: Machine, key: str) -> None:
    with machine.serving() as gateway:
        clients = [asyncio.create_task(ask_until_refused(gateway.port, key)) for _ in range(16)]
        await asyncio.sleep(1)
        gateway.process.send_signal(signal.SIGTERM)
        counts = await asyncio.gather(*clients)
        assert await asyncio.to_thread(gateway.process.wait, 10) == 0
    assert min(counts) > 0


async def ask_until_refused(port: int, key: str) -> int:
    """Asks again and again; how often it was answered. A question without an answer fails."""
    body = b'{"card":"nobody","amount":1,"currency":"USD"}'
    answered = 0
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return answered
        closing = False
        while not closing:
            head = (
                f"POST /v1/authorizations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"Idempotency-Key: load-{id(reader)}-{answered}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            said = await reader.readuntil(b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 200 "), said
            length = int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            answered += 1
            closing = b"connection: close" in said
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_simulated_traffic_ends_in_one_document(machine: Machine, key: str) -> None:
    with machine.serving() as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        report = machine.json(
            "simulate", url, "--key", key, "--rate", "40", "--seconds", "2", "--seed", "7"
        )
        assert gateway.end()[0] == 0
    assert report["sent"] == 80
    assert report["errors"] == 0
    assert set(report["latency_ms"]) >= {"p50", "p95", "p99", "max"}
    refused = machine.run("simulate", url, "--key", key, "--rate", "1", "--seconds", "1")
    assert refused.returncode == 2
    sentence(refused)
    assert machine.json("verify")["ok"] is True


def test_a_database_of_ones_own(machine: Machine, empty_database: str) -> None:
    of = {"DATABASE_URL": empty_database, "JITWAY_DATA_DIR": "/nonexistent"}
    unmigrated = machine.run("serve", **of)
    assert unmigrated.returncode == 1
    assert "jitway migrate" in sentence(unmigrated)
    assert machine.run("verify", **of).returncode == 2
    first = machine.json("init", **of)
    assert first["database"].startswith("postgresql://")
    assert machine.json("verify", **of)["ok"] is True
    assert "no PostgreSQL of jitway's own" in machine.run("stop", **of).stdout
    with machine.serving(**of) as gateway:
        assert gateway.end()[0] == 0


def test_workers_that_cannot_start_say_why_once(machine: Machine, empty_database: str) -> None:
    of = {"DATABASE_URL": empty_database, "JITWAY_POOL_MAX": "5", "JITWAY_WORKERS": "2"}
    unmigrated = machine.run("serve", **of)
    assert unmigrated.returncode == 1
    assert "jitway migrate" in sentence(unmigrated)
    # 64 times 11 connections are more than any server of the tests gives.
    crowded = machine.run("serve", "--workers", "64", **of)
    assert crowded.returncode == 1
    assert "64 workers may open 704 connections" in sentence(crowded)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = machine.run("serve", "--port", str(port), **of)
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in sentence(refused)


async def test_verify_says_what_is_wrong_and_exits_1(
    machine: Machine, adapter: PostgreSQLAdapter, database: str
) -> None:
    await adapter.execute_query(
        "INSERT INTO outbox (slot, id, type, occurred_at) "
        "VALUES (0, gen_random_uuid(), 'jit-funding.approved', now())"
    )
    done = await asyncio.to_thread(machine.run, "verify", "--json", DATABASE_URL=database)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert {"invariant", "subject", "detail"} == set(report["violations"][0])
    told = await asyncio.to_thread(machine.run, "verify", DATABASE_URL=database)
    assert "VIOLATED events_have_causes" in told.stdout


@pytest.mark.parametrize("command", [("init",), ("migrate",), ("verify",), ("keys", "list")])
def test_a_database_that_is_not_there(machine: Machine, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"postgresql://ada:canary@127.0.0.1:{port}/jitway"
    done = machine.run(*command, DATABASE_URL=url)
    assert done.returncode == 2
    assert "canary" not in sentence(done)
    if command == ("init",):
        assert machine.run("serve", DATABASE_URL=url).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("serve",), 1),
        (("verify",), 2),
        (("stop",), 2),
        (("settings",), 2),
    ],
)
def test_a_setting_that_cannot_be_meant(
    machine: Machine, arguments: tuple[str, ...], code: int
) -> None:
    done = machine.run(*arguments, JITWAY_LANE="3")
    assert done.returncode == code
    assert "did you mean JITWAY_LANES?" in sentence(done)


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("serve", "--nonsense"), ("serve", "--port", "x"), ("keys", "revoke")],
)
def test_wrong_use_exits_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, list(arguments)).exit_code == 2


def test_keys_that_cannot_be_made_or_found(machine: Machine, key: str) -> None:
    for arguments, code in (
        (("create", "--scopes", "everything"), 2),
        (("create", "--program", "prg_" + "0" * 32), 2),
        (("revoke", "key_" + "0" * 32), 1),
        (("revoke", "nonsense"), 1),
    ):
        done = machine.run("keys", *arguments)
        assert done.returncode == code, done.stderr
        sentence(done)


def every_command() -> list[list[str]]:
    """The paths of all commands and groups."""
    paths: list[list[str]] = [[]]
    for name, command in main.commands.items():
        paths.append([name])
        paths += [[name, sub] for sub in getattr(command, "commands", {})]
    return paths


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_helps(path: list[str]) -> None:
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0
    assert done.output.startswith("Usage: ")
    assert len(done.output.strip().splitlines()) > 4


def test_settings_tell_where_each_came_from(machine: Machine) -> None:
    shown = machine.json("settings", DATABASE_URL="postgresql://u:canary@h/d")
    assert shown["DATABASE_URL"] == {"value": "postgresql://u:***@h/d", "source": "environment"}
    assert shown["JITWAY_LANES"] == {"value": "1", "source": "default"}
