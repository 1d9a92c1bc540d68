"""`logs.py`: log lines of this process: one schema, redacted, and never a reason to wait.

A line is JSON, or text on a terminal, on standard error. Lines pass through a bounded queue to a
thread; when whoever reads them is blocked, lines are dropped and counted, and nothing else stops.
"""

import json
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog

QUEUED_MAX = 10_000
TEXT_MAX = 4_000
STOP_S = 1.0
MASK = "***"

_SECRET_NAMES = frozenset(
    {"api_key", "authorization", "cvv", "key", "pan", "password", "pin", "secret", "token", "track"}
)
_SECRET_ENDS = ("_password", "_secret", "_token")
_KEY = re.compile(r"\bjw_[A-Za-z0-9_-]{20,}")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^\s@]+@")
_LONG_NUMBER = re.compile(r"(?<![0-9a-zA-Z])[0-9]{13,19}(?![0-9a-zA-Z])")
_FIRST = ("at", "level", "logger", "event", "request_id")

Event = MutableMapping[str, Any]


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own.

    Args:
        descriptor: open for writing.
        queued_max: lines that may wait; the next one is dropped.
    """

    def __init__(self, descriptor: int, *, queued_max: int = QUEUED_MAX) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(queued_max)
        self.dropped_count = 0
        self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Hands a line over; never waits."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped_count += 1

    def close(self) -> None:
        """Writes what waits, as far as a second allows; may be called twice."""
        try:
            self._lines.put(None, timeout=STOP_S)
        except queue.Full:
            return
        self._thread.join(STOP_S)

    def _run(self) -> None:
        told_count = 0
        while (line := self._lines.get()) is not None:
            if told_count != self.dropped_count:
                dropped, told_count = self.dropped_count - told_count, self.dropped_count
                line += b'{"level":"warning","event":"log_lines_dropped","count":%d}\n' % dropped
            while line:
                try:
                    line = line[os.write(self._descriptor, line) :]
                except OSError:
                    self.dropped_count += 1
                    break


class Lines:
    """What structlog calls a logger: knows its name and where lines go."""

    def __init__(self, writer: LineWriter, name: str) -> None:
        self.name = name
        self._writer = writer

    def msg(self, line: bytes) -> None:
        """Takes a rendered line."""
        self._writer.write(line)

    debug = info = warning = warn = error = critical = fatal = exception = failure = log = msg


class FromStandardLibrary(logging.Handler):
    """Brings the lines of libraries into the same queue and the same schema."""

    def emit(self, record: logging.LogRecord) -> None:
        """Logs one record of the standard library."""
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def configure(*, level: str, form: str | None, worker: int | None = None) -> LineWriter:
    """Sends every line of this process to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `json` or `text`; None: text on a terminal.
        worker: which of several processes this is; every line says so.

    Returns:
        The writer, to be closed last.
    """
    is_text = form == "text" or (form is None and sys.stderr.isatty())
    number = getattr(logging, level.upper())
    writer = LineWriter(2)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_name if worker is None else _adder(worker),
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            redact,
            render_text if is_text else render_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *arguments: Lines(writer, arguments[0] if arguments else "jitway"),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [FromStandardLibrary()]
    # What libraries say below a warning is for their own developers.
    root.setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)
    return writer


def redact(_: Any, __: str, event: Event) -> Event:
    """Takes secrets and card numbers out of an event, and bounds its texts."""
    return {name: _redacted(name, value) for name, value in event.items()}


def render_json(_: Any, __: str, event: Event) -> bytes:
    """One line of JSON; the members that every line has come first."""
    return msgspec.json.encode(_in_order(event), enc_hook=str) + b"\n"


def render_text(_: Any, __: str, event: Event) -> bytes:
    """One line for a person; an exception follows on lines of its own."""
    rest = dict(event)
    at, level, event_name = rest.pop("at", ""), rest.pop("level", ""), rest.pop("event", "")
    rest.pop("logger", None)
    exception = rest.pop("exception", None)
    said = " ".join(f"{name}={_plain(value)}" for name, value in rest.items())
    line = f"{at[11:23]} {level:<7} {_plain(event_name)} {said}".rstrip()
    if exception is not None:
        line += "\n" + "\n".join(f"    {_plain(part)}" for part in exception.split("\n"))
    return (line + "\n").encode(errors="backslashreplace")


def _add_name(logger: Any, _: str, event: Event) -> Event:
    event["logger"] = getattr(logger, "name", "jitway")
    return event


def _adder(worker: int) -> structlog.typing.Processor:
    """Adds the name, and which of several workers writes the line."""

    def add(logger: Any, method: str, event: Event) -> Event:
        event.setdefault("worker", worker)
        return _add_name(logger, method, event)

    return add


def _in_order(event: Event) -> dict[str, Any]:
    first = {name: event[name] for name in _FIRST if name in event}
    return first | {name: value for name, value in event.items() if name not in first}


def _redacted(name: str, value: Any) -> Any:
    if name in _SECRET_NAMES or name.endswith(_SECRET_ENDS):
        return MASK
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, dict):
        return {str(key): _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(name, item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redacted_text(str(value))


def redacted_text(text: str) -> str:
    """The text without keys, passwords in addresses and card numbers; of bounded length."""
    # A lone surrogate is no text that could be written.
    text = text[:TEXT_MAX].encode(errors="backslashreplace").decode()
    text = _KEY.sub(f"jw_{MASK}", text)
    text = _URL_PASSWORD.sub(rf"\g<1>{MASK}@", text)
    return _LONG_NUMBER.sub(_masked_number, text)


def _masked_number(match: re.Match[str]) -> str:
    digits = [int(digit) for digit in match[0]]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return MASK if (doubled + sum(digits[-1::-2])) % 10 == 0 else match[0]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text.isprintable() else json.dumps(text)
