"""`jitway profile`: against a gateway that is a process, and against everything that is none."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import SystemClock
from jitway.gateway.keys import create_key
from tests.servers.certificates import make_certificates
from tests.world import OPERATOR, World


class Terminal:
    """`jitway` on one database."""

    def __init__(self, url: str, directory: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "DATABASE_URL": url,
            "JITWAY_ENV_FILE": os.devnull,
            "COLUMNS": "140",
        }

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        # Whoever runs us in the background may ignore it, and children inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [sys.executable, "-m", "jitway", *arguments],
            env=self.environment | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def terminal(database: str, tmp_path: Path) -> Terminal:
    return Terminal(database, tmp_path)


@pytest.fixture
def port(terminal: Terminal) -> Iterator[str]:
    """Where a gateway serves."""
    process = terminal.start("serve", PORT="0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("jitway serves at "), process.communicate()
        yield line.rpartition(":")[2].strip()
    finally:
        process.kill()
        process.communicate(timeout=30)


async def key_of(adapter: PostgreSQLAdapter, *scopes: str, program: str | None = None) -> str:
    _, text = await create_key(adapter, SystemClock(), OPERATOR, scopes=scopes, program_id=program)
    return text


def approve(port: str, key: str, card: str) -> None:
    """One approval; on a busy machine the first tries may end without a decision."""
    refused = ""
    for attempt in range(10):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/authorizations",
            json.dumps({"card": card, "amount": 100, "currency": "USD"}).encode(),
            {
                "Authorization": f"Bearer {key}",
                "Idempotency-Key": f"attempt-{attempt}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                assert json.load(response)["decision"] == "approved"
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            refused = error.read().decode()
    raise AssertionError(refused)


async def test_the_stages_of_a_running_gateway(terminal: Terminal, port: str, world: World) -> None:
    key = await key_of(world.postgres, "authorize", "read")
    await world.deposit(1000)
    approve(port, key, world.card["id"])

    code, out, err = terminal.run("profile", PORT=port, JITWAY_KEY=key)
    assert (code, err) == (0, "")
    for stage in ("decode", "card_lookup", "limits_check", "decision", "commit", "total"):
        assert stage in out
    assert "approved 1 (100.0 %), declined 0" in out
    assert key not in out

    code, out, _ = terminal.run(
        "profile", "--json", "--url", f"http://127.0.0.1:{port}/", "--key", key
    )
    profile: dict[str, Any] = json.loads(out)
    assert code == 0
    assert profile["windows"]["start"]["stages"]["commit"]["count"] >= 1

    # A program's key sees no other program, so not the whole either.
    own = await key_of(world.postgres, "read", program=world.program["id"])
    code, out, err = terminal.run("profile", PORT=port, JITWAY_KEY=own)
    assert (code, out) == (2, "")
    assert "of one program" in err


async def test_a_gateway_that_serves_https_is_asked_over_it(
    terminal: Terminal, world: World, tmp_path: Path
) -> None:
    files = make_certificates(tmp_path)
    terminal.environment |= {
        "HOST": "localhost",
        "JITWAY_TLS_CERT": str(files.certificate),
        "JITWAY_TLS_KEY": str(files.key),
        "JITWAY_KEY": await key_of(world.postgres, "read"),
    }
    process = terminal.start("serve", PORT="0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("jitway serves at https://"), line
        port = line.rpartition(":")[2].strip()
        code, out, err = terminal.run("profile", "--json", PORT=port, SSL_CERT_FILE=str(files.ca))
        assert (code, err) == (0, "")
        assert set(json.loads(out)["windows"]) == {"minute", "hour", "start"}
        code, out, err = terminal.run("profile", PORT=port)
        assert (code, out) == (2, "")
        assert "cannot be trusted" in err
        assert len(err.splitlines()) == 1
    finally:
        process.kill()
        process.communicate(timeout=30)
    code, out, _ = terminal.run("dashboard-link", PORT=port)
    assert (code, out.partition("#")[0]) == (0, f"https://localhost:{port}/dashboard")


async def test_watching_goes_on_until_interrupted(
    terminal: Terminal, port: str, adapter: PostgreSQLAdapter
) -> None:
    key = await key_of(adapter, "read")
    process = terminal.start("profile", "--watch", "--json", PORT=port, JITWAY_KEY=key)
    try:
        assert process.stdout is not None
        seconds = [
            json.loads(process.stdout.readline())["windows"]["start"]["seconds"] for _ in range(2)
        ]
        assert seconds[1] > seconds[0]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")


def test_expected_failures_are_one_sentence(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free = str(unused.getsockname()[1])
    for arguments, environ, said in (
        (["profile"], {}, "say which key"),
        (["profile", "--key", "jw_x"], {"PORT": "0"}, "--url"),
        (["dashboard-link"], {"PORT": "0"}, "--url"),
        (["profile", "--key", "jw_x"], {"PORT": free}, "jitway serve"),
        (["profile", "--key", "jw_x", "--url", "gateway:3000"], {}, "is no address"),
        (["profile", "--key", "jw_x", "--url", "http://[::1"], {}, "is no address"),
        (["profile", "--key", "schlüssel", "--url", f"http://127.0.0.1:{free}"], {}, ""),
        (["profile", "--key", "a\nb", "--url", f"http://127.0.0.1:{free}"], {}, ""),
    ):
        code, out, err = terminal.run(*arguments, **environ)
        assert (code, out) == (2, "")
        (line,) = err.strip().splitlines()
        assert line.startswith("jitway: ")
        assert said in line


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"",
    ],
)
def test_what_answers_there_may_be_no_gateway(terminal: Terminal, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = terminal.start("profile", "--key", "jw_x", "--url", address)
        listener.settimeout(30)
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
