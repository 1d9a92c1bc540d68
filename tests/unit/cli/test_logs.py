"""Log lines: one schema, nothing secret, one line each, and nobody waits for them."""

import json
import logging
import os
import threading
from typing import Any

import pytest

from jitway.cli import logs
from jitway.cli.logs import LineWriter, redact, render_json, render_text


def rendered(**event: Any) -> dict[str, Any]:
    line = render_json(None, "", redact(None, "", event))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document: dict[str, Any] = json.loads(line)
    return document


@pytest.mark.parametrize(
    "text",
    ["a\r\nb", "\x1b[31mred", '"}, {"level": "error', "\x00", "\ud800", "\u2028", "\U0001f600"],
)
def test_any_text_is_one_line_that_can_be_read(text: str) -> None:
    assert rendered(event="x", request_id=text)["event"] == "x"
    line = render_text(None, "", redact(None, "", {"event": "x", "level": "info", "id": text}))
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line


def test_members_that_every_line_has_come_first() -> None:
    event = {"cause": "c", "event": "e", "at": "t", "logger": "l", "level": "info"}
    assert list(rendered(**event)) == ["at", "level", "logger", "event", "cause"]


@pytest.mark.parametrize(
    "event",
    [
        {"password": "canary"},
        {"api_key": "canary"},
        {"webhook_secret": "canary"},
        {"nested": {"token": "canary"}},
        {"cause": "cannot reach postgresql://ada:canary@db/jitway"},
        {"cause": "amqp://u:can/ary-canary@host"},
        {"header": "Bearer jw_canarycanarycanarycanarycanarycanarycanary"},
        {"text": "card 4111111111111111 was used"},
        {"listed": ["ok", "4111111111111111"]},
        {"exception": "ValueError: jw_canarycanarycanarycanarycanary"},
        {"thing": ValueError("postgresql://u:canary@h")},
    ],
)
def test_secrets_and_card_numbers_stay_out(event: dict[str, Any]) -> None:
    line = render_json(None, "", redact(None, "", event)).decode()
    assert "canary" not in line
    assert "4111111111111111" not in line


def test_ids_and_other_numbers_stay() -> None:
    told = rendered(event="x", id="crd_0199a0b0c0d0e0f00102030405060708", at_ns="1234567890123457")
    assert told["id"] == "crd_0199a0b0c0d0e0f00102030405060708"
    assert told["at_ns"] == "1234567890123457"
    assert rendered(event="x", ids=(1, None, True))["ids"] == [1, None, True]


def test_a_long_text_is_cut() -> None:
    assert len(rendered(event="x", cause="y" * 100_000)["cause"]) == logs.TEXT_MAX


def test_a_reader_that_is_blocked_stops_nobody() -> None:
    """Fault D1: the pipe is full and nobody reads it; lines are dropped and counted."""
    read_end, write_end = os.pipe()
    writer = LineWriter(write_end, queued_max=100)
    line = b"x" * 999 + b"\n"
    for _ in range(1_000):
        writer.write(line)
    assert writer.dropped_count >= 1_000 - 100 - 66
    said = bytearray()

    def read() -> None:
        while b"log_lines_dropped" not in said:
            said.extend(os.read(read_end, 65_536))

    reading = threading.Thread(target=read)
    reading.start()
    while reading.is_alive():
        writer.write(b"still here\n")
        reading.join(0.01)
    writer.close()
    os.close(write_end)
    os.close(read_end)
    (told,) = (one for one in said.split(b"\n") if b"log_lines_dropped" in one)
    assert json.loads(told)["count"] > 0


def test_a_reader_that_is_gone_stops_nobody() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LineWriter(write_end)
    writer.write(b"to nobody\n")
    writer.close()
    os.close(write_end)
    assert writer.dropped_count == 1


def test_libraries_speak_through_the_same_queue(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import structlog

    before = (structlog.get_config(), logging.getLogger().handlers[:], logging.getLogger().level)
    lines = logs.configure(level="info", form="json")
    try:
        logging.getLogger("somebody").error("cannot reach %s", "redis://:canary@h")
        structlog.get_logger("jitway.x").info("hello", request_id="r1")
        structlog.get_logger("jitway.x").debug("unheard")
        logging.getLogger("somebody").info("unheard")
    finally:
        lines.close()
        structlog.configure(**before[0])
        logging.getLogger().handlers[:] = before[1]
        logging.getLogger().setLevel(before[2])
        logging.captureWarnings(capture=False)
    theirs, ours = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert theirs["logger"] == "somebody"
    assert theirs["level"] == "error"
    assert "canary" not in theirs["event"]
    assert list(ours) == ["at", "level", "logger", "event", "request_id"]
    assert ours["logger"] == "jitway.x"
