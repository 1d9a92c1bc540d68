"""What the PostgreSQL adapter says and counts: addresses, failures, statements, waits."""

import asyncio

import pytest

from jitway.adapters.postgresql.failure import commit_was_refused, refusal, statement_failure
from jitway.adapters.postgresql.gate import ConnectGate, Refusal
from jitway.adapters.postgresql.options import masked_address, read_limits
from jitway.adapters.postgresql.statistics import WaitHistogram, normalized
from jitway.errors import (
    JitwayError,
    LedgerUnavailable,
    LockTimeout,
    QueryTimeout,
    SettingsError,
    StatementRefused,
    TransactionConflict,
)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:hun@ter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:hunter2@a:1,b:2/d", "postgresql://u:***@a:1,b:2/d"),
        ("postgresql://h/d?user=u&password=hunter2", "postgresql://h/d?user=u&password=***"),
        ("postgresql://u@/d?host=%2Frun%2Fpg", "postgresql://u@/d?host=/run/pg"),
        ("postgresql://h/d?sslpassword=hunter2", "postgresql://h/d?sslpassword=***"),
        ("postgresql://[hunter2", "postgresql://***"),
    ],
)
def test_a_masked_address_has_everything_but_the_password(url: str, masked: str) -> None:
    assert masked_address(url) == masked


def test_keywords_win_over_the_mapping() -> None:
    mapping = {"DATABASE_URL": "postgresql://mapping/d", "REDIS_URL": "ignored"}
    assert read_limits(mapping, {}).database_url == "postgresql://mapping/d"
    given = read_limits(mapping, {"database_url": "postgres://keyword/d", "pool_size_max": 7})
    assert (given.database_url, given.pool_size_max) == ("postgres://keyword/d", 7)
    with pytest.raises(SettingsError, match="a mapping such as"):
        read_limits("postgresql://h/d", {})  # type: ignore[arg-type]  # what a caller may try


def test_the_documented_defaults() -> None:
    limits = read_limits({"DATABASE_URL": "postgresql://h/d"}, {})
    assert (limits.pool_size_min, limits.pool_size_max) == (5, 20)
    assert (limits.query_timeout_ms, limits.slow_query_ms) == (30_000, 100)
    assert limits.server_settings()["statement_timeout"] == "30000"
    assert (limits.schema, limits.search_path) == ("jitway", "jitway, public")


def test_a_pooler_that_refuses_settings_gets_only_the_name() -> None:
    limits = read_limits({"DATABASE_URL": "postgresql://h/d"}, {"send_settings": False})
    assert limits.server_settings() == {"application_name": "jitway"}


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("57014", QueryTimeout),
        ("25P03", QueryTimeout),
        ("25P04", QueryTimeout),
        ("55P03", LockTimeout),
        ("40001", TransactionConflict),
        ("40P01", TransactionConflict),
        ("25006", LedgerUnavailable),
        ("57P01", LedgerUnavailable),
        ("57P03", LedgerUnavailable),
        ("08006", LedgerUnavailable),
        ("53100", LedgerUnavailable),
        ("53200", LedgerUnavailable),
        ("53300", LedgerUnavailable),
        ("58030", LedgerUnavailable),
        ("23505", StatementRefused),
        ("22003", StatementRefused),
        ("42601", StatementRefused),
        ("XX000", StatementRefused),
    ],
)
def test_every_state_has_one_meaning(sqlstate: str, kind: type[JitwayError]) -> None:
    assert type(statement_failure(sqlstate, "said", address="postgresql://h/d")) is kind


def test_a_quoted_value_is_left_out_and_a_constraint_is_not() -> None:
    bad = statement_failure("22P02", 'invalid input syntax for type integer: "hunter2"')
    assert str(bad) == "invalid input syntax for type integer: (value)"
    broken = statement_failure("23514", 'violates check "held_not_negative"', constraint="held")
    assert "held_not_negative" in str(broken)


@pytest.mark.parametrize(
    ("sqlstate", "severity", "certain"),
    [
        ("23505", "ERROR", True),
        ("40001", "ERROR", True),
        ("25P02", "ERROR", True),
        ("40003", "ERROR", False),
        ("57P01", "FATAL", False),
        ("23505", "FATAL", False),
        ("57014", "ERROR", False),
        ("58030", "ERROR", False),
        ("", "", False),
    ],
)
def test_only_an_error_of_the_transaction_itself_proves_a_rollback(
    sqlstate: str, severity: str, certain: bool
) -> None:
    assert commit_was_refused(sqlstate, severity) is certain


@pytest.mark.parametrize(
    ("sqlstate", "says", "passing"),
    [
        ("28P01", "refused the user name or password", False),
        ("28000", "refused the user name or password", False),
        ("3D000", "no such database", False),
        ("53300", "no connection left", True),
        ("57P03", "starting up or shutting down", True),
        ("22023", "send_settings=False", False),
        ("XX000", "refused the connection: said (XX000)", False),
    ],
)
def test_a_refused_connection_says_what_to_do(sqlstate: str, says: str, passing: bool) -> None:
    refused = refusal(sqlstate, "said", address="postgresql://u:***@h/d")
    assert "postgresql://u:***@h/d" in refused.text
    assert says in refused.text
    assert refused.passing is passing


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT  *\nFROM t -- why\nWHERE a = 5", "SELECT * FROM t WHERE a = ?"),
        ("SELECT 'a''b', 1.5, $1, col2", "SELECT ?, ?, $1, col2"),
        (r"SELECT E'it\'s secret', 'c:\'", "SELECT ?, ?"),
        ("SELECT $$secret$$, $tag$ a $$ b $tag$", "SELECT ?, ?"),
        ('SELECT /* secret */ "Name1"', 'SELECT "Name1"'),
        ("SELECT '-- secret'", "SELECT ?"),
    ],
)
def test_a_statement_is_written_without_its_literals(sql: str, line: str) -> None:
    assert normalized(sql) == line


def test_a_long_statement_is_cut() -> None:
    assert len(normalized("SELECT " + "column_name, " * 200)) == 400


def test_percentiles_of_waits_are_within_a_fifth() -> None:
    waits = WaitHistogram()
    assert waits.summary() == {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    for millisecond in range(1, 1001):
        waits.observe(millisecond * 1_000_000)
    for percent in (50, 95, 99):
        exact = percent * 10
        assert exact <= waits.percentile_ms(percent) <= exact * 1.25
    assert waits.summary()["max"] == 1000.0
    waits.observe(2**70)
    waits.observe(0)
    assert waits.count == 1002


# The gate


class Door:
    """A server that refuses while it is shut, and counts who knocks."""

    def __init__(self) -> None:
        self.shut = True
        self.knocks = 0
        self.at_once = self.at_once_max = 0

    async def knock(self) -> str | Refusal:
        self.knocks += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return Refusal("shut", passing=True) if self.shut else "connection"


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_those_who_waited_share_one_refusal() -> None:
    gate, door = ConnectGate[str](), Door()
    await gate.attempt(door.knock, since=now())
    began = now()
    outcomes = await asyncio.gather(*(gate.attempt(door.knock, since=now()) for _ in range(50)))
    assert outcomes == [Refusal("shut", passing=True)] * 50
    assert (door.knocks, door.at_once_max) == (2, 1)
    assert now() - began >= 0.15


async def test_an_open_door_is_passed_by_all_at_once() -> None:
    gate, door = ConnectGate[str](), Door()
    door.shut = False
    await asyncio.gather(*(gate.attempt(door.knock, since=now()) for _ in range(20)))
    assert door.at_once_max == 20


async def test_after_a_refusal_one_success_opens_the_gate() -> None:
    gate, door = ConnectGate[str](), Door()
    await gate.attempt(door.knock, since=now())
    door.shut = False
    outcomes = await asyncio.gather(*(gate.attempt(door.knock, since=now()) for _ in range(20)))
    assert outcomes == ["connection"] * 20
    began = now()
    await gate.attempt(door.knock, since=now())
    assert now() - began < 0.15


async def test_a_cancelled_caller_does_not_hold_the_gate() -> None:
    gate, door = ConnectGate[str](), Door()
    await gate.attempt(door.knock, since=now())
    first = asyncio.create_task(gate.attempt(door.knock, since=now()))
    await asyncio.sleep(0)
    first.cancel()
    door.shut = False
    assert await gate.attempt(door.knock, since=now()) == "connection"
