"""`scripts/services`: starts what is missing, leaves alone what is given, ends what it started."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import packages, redis, services
from tests.servers.process import ServerProcess
from tests.servers.services import Services


@pytest.fixture(autouse=True)
def _only_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickest of the four stands for all; nothing is installed by a test."""
    monkeypatch.setattr(services, "VARIABLES", ("REDIS_URL",))
    monkeypatch.setattr(packages, "can_install", lambda: False)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    Services(tmp_path, {}).stop()


def is_alive(process: ServerProcess) -> bool:
    return process.is_alive


def pids(checkout: Path) -> list[int]:
    running = Services(checkout, {})._read()
    return [pid for server in running.values() for pid, _ in server.processes]


def test_it_starts_once_and_tells_the_address(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Services(checkout, {}).env() == 1
    assert Services(checkout, {}).start() == 0
    first = pids(checkout)
    assert Services(checkout, {}).start() == 0
    assert pids(checkout) == first
    capsys.readouterr()

    assert Services(checkout, {}).env() == 0
    (line,) = capsys.readouterr().out.splitlines()
    variable, _, url = line.partition("=")
    assert variable == "REDIS_URL"
    # What we told before and get back is still ours.
    assert Services(checkout, {"REDIS_URL": url}).start() == 0
    assert pids(checkout) == first
    assert Services(checkout, {}).status() == 0
    assert "started by us" in capsys.readouterr().out


def test_stop_ends_what_was_started_and_removes_its_data(checkout: Path) -> None:
    assert Services(checkout, {}).start() == 0
    (process,) = (
        ServerProcess(*entry) for entry in Services(checkout, {})._read()["REDIS_URL"].processes
    )
    assert is_alive(process)
    assert Services(checkout, {}).stop() == 0
    assert not is_alive(process)
    assert not (checkout / ".services" / "redis").exists()
    assert Services(checkout, {}).stop() == 0
    assert Services(checkout, {}).status() == 1


def test_a_given_server_is_used_and_never_stopped(checkout: Path, tmp_path: Path) -> None:
    given = redis.RedisServer(tmp_path / "given")
    given.start()
    (process,) = given.processes
    try:
        theirs = Services(checkout, {"REDIS_URL": given.url})
        assert theirs.start() == 0
        assert pids(checkout) == []
        assert theirs.status() == 0
        assert theirs.stop() == 0
        assert process.is_alive
    finally:
        process.stop()


def test_a_given_server_that_does_not_answer_is_an_error_and_nothing_takes_its_place(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = Services(checkout, {"REDIS_URL": "redis://:secret@127.0.0.1:1/0"})
    assert nobody.start() == 1
    said = capsys.readouterr().err
    assert "nothing usable answers" in said
    assert "redis://:***@" in said
    assert pids(checkout) == []


def test_a_server_that_died_is_started_again(checkout: Path) -> None:
    assert Services(checkout, {}).start() == 0
    (before,) = pids(checkout)
    ServerProcess(*Services(checkout, {})._read()["REDIS_URL"].processes[0]).kill()
    assert Services(checkout, {}).status() == 1
    assert Services(checkout, {}).start() == 0
    assert pids(checkout) != [before]


def test_another_process_with_the_same_number_is_left_alone() -> None:
    ours = ServerProcess(os.getpid(), 1)
    assert not ours.is_alive
    ours.stop()
    ours.kill()


def test_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert services.main([]) == 2
    assert services.main(["restart"]) == 2
    assert "usage" in capsys.readouterr().err
