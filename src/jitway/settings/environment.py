"""`environment.py`: one frozen Settings, read once: environment, then `.env`, then defaults.

Owns the relations between the settings and where each value came from. The only reader of the
environment.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jitway.embedded.places import default_data_dir
from jitway.errors import SettingsError
from jitway.settings.setting import PREFIX, Setting
from jitway.settings.table import ENV_FILE, TABLE
from jitway.settings.values import MASK, masked_url

TEST_PREFIX = "JITWAY_TEST_"
# Read by the scripts and tests of the repository, which start jitway in the same environment;
# JITWAY_KEY by commands that ask a running gateway.
SCRIPTS_OWN = frozenset({"JITWAY_KEY", "JITWAY_REQUIRE_SERVICES", "JITWAY_TEST_DATABASE_URL"})
ENV_FILE_BYTES_MAX = 65_536
SECRET_FILE_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of one process; `TABLE` has their meaning.

    `sources` says where each value came from, by name of the variable.
    """

    host: str
    port: int
    workers: int
    database_url: str | None
    mongodb_uri: str | None
    mongodb_db: str
    redis_url: str | None
    rabbitmq_url: str | None
    data_dir: Path
    decision_budget_ms: int
    batch_statement_timeout_ms: int
    answer_reserve_ms: int
    hold_ttl_s: int
    expiry_sweep_s: float
    idempotency_days: int
    batch_size_max: int
    waiting_max: int
    card_views_max: int
    lanes: int
    pool_min: int
    pool_max: int
    query_timeout_s: float
    slow_query_ms: int
    archive_retention_days_authorizations: int
    archive_retention_days_transactions: int
    archive_retention_days_webhooks: int
    tls_cert: Path | None
    tls_key: Path | None
    head_bytes_max: int
    headers_max: int
    head_timeout_s: float
    body_bytes_max: int
    body_timeout_s: float
    first_byte_timeout_s: float
    keep_alive_s: float
    write_timeout_s: float
    connections_max: int
    connections_per_address_max: int
    pipelined_max: int
    trusted_proxies: str | None
    key_rate_max: int
    key_authorizations_rate_max: int
    failed_keys_rate_max: int
    queries_max: int
    drain_s: float
    session_s: float
    session_idle_s: float
    work: str
    webhook_secrets: str | None
    log_format: str | None
    log_level: str
    otel_endpoint: str | None
    otel_sample: float
    unsafe_durability: bool
    test_mode: bool
    env_file: Path
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses values that contradict each other.

        Raises:
            SettingsError: with the names of both.
        """
        must(
            self.decision_budget_ms >= self.batch_statement_timeout_ms + self.answer_reserve_ms,
            "JITWAY_DECISION_BUDGET_MS must be at least JITWAY_BATCH_STATEMENT_TIMEOUT_MS plus "
            "JITWAY_ANSWER_RESERVE_MS: a statement would outlive the request it decides",
        )
        must(
            self.pool_min <= self.pool_max,
            "JITWAY_POOL_MIN must not be above JITWAY_POOL_MAX",
        )
        must(
            self.waiting_max >= self.batch_size_max,
            "JITWAY_WAITING_MAX must be at least JITWAY_BATCH_SIZE_MAX: no batch could fill",
        )
        must(
            self.hold_ttl_s * 1000 >= 2 * self.decision_budget_ms,
            "JITWAY_HOLD_TTL_S must be at least twice JITWAY_DECISION_BUDGET_MS: "
            "a hold could expire while it is being decided",
        )
        must(
            (self.tls_cert is None) == (self.tls_key is None),
            "JITWAY_TLS_CERT and JITWAY_TLS_KEY belong together: set both or none",
        )

    def shown(self) -> list[tuple[Setting, str, str]]:
        """Each setting with its value fit for eyes and where it came from."""
        return [
            (row, self._shown_value(row), self.sources.get(row.name, "default")) for row in TABLE
        ]

    def _shown_value(self, row: Setting) -> str:
        value = getattr(self, row.attribute)
        if value is None:
            return ""
        return masked_url(value) if row.is_url else str(value)

    def __repr__(self) -> str:
        """Every value, secrets masked."""
        values = ", ".join(f"{row.attribute}={shown!r}" for row, shown, _ in self.shown())
        return f"Settings({values})"


def load(
    environ: Mapping[str, str] | None = None, directory: Path | None = None, **given: Any
) -> Settings:
    """Reads the settings.

    Args:
        environ: the environment; None = the process's own.
        directory: where `.env` is looked for; None = the working directory.
        given: fields that a command line sets; they win over everything.

    Raises:
        SettingsError: a name is unknown, a value is wrong, or two contradict each other.
    """
    environ = os.environ if environ is None else environ
    env_file = _env_file(environ, directory or Path.cwd())
    found = _read_env_file(env_file)
    found.update({name: (text, "environment") for name, text in environ.items()})
    _refuse_unknown(found)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for row in TABLE:
        text, source = _text_of(row, found)
        if text:
            values[row.attribute] = _read(row, text, source)
            sources[row.name] = source
        elif row.default:
            values[row.attribute] = row.read(row.default)
        else:
            values[row.attribute] = None
    values["env_file"] = env_file
    if values["data_dir"] is None:
        values["data_dir"] = _user_data_dir(environ, needed=values["database_url"] is None)
    values["data_dir"] = values["data_dir"].absolute()
    for attribute, value in given.items():
        values[attribute] = value
        sources.update({row.name: "command line" for row in TABLE if row.attribute == attribute})
    return Settings(**values, sources=MappingProxyType(sources))


def must(holds: bool, otherwise: str) -> None:  # noqa: FBT001 reads as a sentence at the call
    """Raises a SettingsError with the sentence unless the relation holds."""
    if not holds:
        raise SettingsError(otherwise)


def _env_file(environ: Mapping[str, str], directory: Path) -> Path:
    return directory / Path(environ.get(ENV_FILE) or ".env").expanduser()


def _read_env_file(path: Path) -> dict[str, tuple[str, str]]:
    try:
        with path.open("rb") as file:
            content = file.read(ENV_FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    must(len(content) <= ENV_FILE_BYTES_MAX, f"{path} is larger than {ENV_FILE_BYTES_MAX} bytes")
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if (pair := _parse_line(line, f"{path.name} line {number}")) is not None:
            found[pair[0]] = (pair[1], f"{path.name} line {number}")
    must(ENV_FILE not in found, f"{ENV_FILE} has no effect in {path.name}: set it outside")
    return found


def _parse_line(line: str, where: str) -> tuple[str, str] | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    match = re.fullmatch(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", line)
    if match is None:
        raise SettingsError(f"{where} is not NAME=value")
    name, text = match[1], match[2]
    if text[:1] in {'"', "'"}:
        closing = text.find(text[0], 1)
        rest = text[closing + 1 :].strip()
        if closing < 0 or (rest and not rest.startswith("#")):
            raise SettingsError(f"{where} has a quotation mark without its partner")
        return name, text[1:closing]
    # A comment needs a blank before it: passwords contain #.
    return name, re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()


def _refuse_unknown(found: Mapping[str, tuple[str, str]]) -> None:
    names = {row.name for row in TABLE}
    known = names | {f"{row.name}_FILE" for row in TABLE if row.is_url} | SCRIPTS_OWN
    in_tests = found.get("JITWAY_TEST_MODE", ("", ""))[0].strip().lower() in {"1", "true"}
    for name, (_, source) in sorted(found.items()):
        if not name.startswith(PREFIX) or name in known:
            continue
        if name.startswith(TEST_PREFIX):
            must(in_tests, f"{name} ({source}) is only for jitway's own tests: unset it")
            continue
        close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else "`jitway settings` lists them all"
        raise SettingsError(f"{name} ({source}) is no setting of jitway: {hint}")


def _text_of(row: Setting, found: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    text, source = found.get(row.name, ("", ""))
    text = text.strip()
    if not row.is_url:
        return text, source
    path, path_source = found.get(f"{row.name}_FILE", ("", ""))
    if not path.strip():
        return text, source
    must(not text, f"{row.name} and {row.name}_FILE are both set: unset one")
    try:
        with Path(path.strip()).expanduser().open("rb") as file:
            content = file.read(SECRET_FILE_BYTES_MAX + 1)
        return content.decode().strip(), f"{row.name}_FILE ({path_source})"
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise SettingsError(f"{row.name}_FILE names {path.strip()}, unreadable: {error}") from error


def _read(row: Setting, text: str, source: str) -> Any:
    try:
        return row.read(text)
    except ValueError as error:
        shown = masked_url(text) if row.is_url else repr(text[:80])
        if row.is_url and "://" not in text:
            shown = MASK
        raise SettingsError(f"{row.name} must be {error}, not {shown} ({source})") from None


def _user_data_dir(environ: Mapping[str, str], *, needed: bool) -> Path:
    home = environ.get("HOME")
    if not home and needed and not environ.get("XDG_DATA_HOME"):
        raise SettingsError(
            "there is no HOME to keep the embedded PostgreSQL's data in: set JITWAY_DATA_DIR or "
            "DATABASE_URL"
        )
    return default_data_dir(Path(home or "/"), environ.get("XDG_DATA_HOME"))


assert {row.attribute for row in TABLE} == {f.name for f in fields(Settings)} - {"sources"}
