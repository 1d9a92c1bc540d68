"""The ceiling: `pgbench` calling one SQL function per authorization that writes equal rows.

Owns the population both sides are asked about, the function, and the reading of pgbench's log.
Everything goes through the client programs of a PostgreSQL, so that nothing of ours is measured.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import CpuMeter
from jitway.embedded.binaries import find_binaries
from jitway.profiler.histogram import Histogram

HERE = Path(__file__).parent
ID_PREFIX = "019a0000-0000-7000-8000-"
FIRST_CARD = 65_536
GRACE_S = 60
TABLES = ("idempotency_key", "decision", "hold", "outbox", "transfer")
CHANGES = {
    "account changes": "SELECT sum(version) FROM account",
    "window counts": "SELECT sum(lifetime_count) FROM spend_window",
}
# As the gateway's connections: unqualified names are the ledger's.
ENVIRONMENT = os.environ | {"PGOPTIONS": "-c search_path=jitway,public"}
CONTROLS = {"limits": [{"period": "day", "amount": 10_000_000_000}], "mcc": ["7995"]}
SCRIPT = """\\set n random({first}, {last})
\\set amount random(100, 900)
SELECT bench_authorize(('{prefix}0' || lpad(to_hex(:n::bigint), 11, '0'))::uuid, :amount);
"""


@dataclass(frozen=True)
class Ceiling:
    """What came of one run; latencies in ms, cores by group of processes."""

    clients: int
    seconds: float
    requests: int
    failed: int
    p50: float
    p95: float
    p99: float
    max: float
    cores: dict[str, float]

    @property
    def per_second(self) -> float:
        """Authorizations a second."""
        return self.requests / self.seconds


def populate(url: str, *, cards: int, controls: Mapping[str, object] | None = None) -> list[str]:
    """Make funded cards in a migrated database; their ids as the API writes them.

    Args:
        url: of the database, as `DATABASE_URL`.
        cards: how many, each with a cardholder and an account of its own.
        controls: of every card, as they are stored; an ordinary limit by default.

    Raises:
        RuntimeError: psql refused; the text carries what it said.
    """
    values = {
        "prefix": ID_PREFIX,
        "cards": str(cards),
        "controls": json.dumps(controls or CONTROLS),
    }
    _psql(url, _filled("population.sql", values))
    digits = ID_PREFIX.replace("-", "")
    return [f"crd_{digits}0{FIRST_CARD + n:011x}" for n in range(cards)]


def make_function(url: str, *, body: str, request: str, explanation: str) -> None:
    """Make the function that decides and writes.

    Args:
        url: of the database.
        body, request, explanation: texts of a real decision, to be written with every row.

    Raises:
        RuntimeError: psql refused; the text carries what it said.
    """
    texts = {"body": body, "request": request, "explanation": explanation}
    quoted = {name: "'" + text.replace("'", "''") + "'" for name, text in texts.items()}
    _psql(url, _filled("ceiling.sql", quoted))


def written(url: str) -> dict[str, int]:
    """How many rows each table has, and how often the rows that stay were changed.

    The two sides must write as many of each for one decision.
    """
    sources = {table: f"SELECT count(*) FROM {table}" for table in TABLES} | CHANGES
    # An alert is no decision's.
    sources["outbox"] += " WHERE type NOT LIKE 'alert.%'"
    parts = ", ".join(f"'{name}', ({query})" for name, query in sources.items())
    counted: dict[str, int] = json.loads(_psql(url, f"SELECT json_build_object({parts})"))
    return counted


def stored_texts(url: str) -> dict[str, str]:
    """Body, request and explanation of an approval that stands in a database."""
    texts: dict[str, str] = json.loads(
        _psql(
            url,
            "SELECT json_build_object('body', body, 'request', request, 'explanation', "
            "explanation) FROM decision WHERE outcome = 'approved' ORDER BY id DESC LIMIT 1",
        )
    )
    return texts


def copy_database(url: str, *, source: str, to: str) -> None:
    """Make a database that is equal to another one, which nobody uses meanwhile."""
    _psql(url, f'CREATE DATABASE "{to}" TEMPLATE "{source}"', one_transaction=False)


def checkpoint(url: str) -> None:
    """Begin a measurement with clean pages, for everybody alike."""
    _psql(url, "CHECKPOINT", one_transaction=False)


def wal_bytes(url: str) -> int:
    """Bytes of write-ahead log ever written: steady where throughput is noisy."""
    return int(_psql(url, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"))


def run(
    url: str, *, clients: int, seconds: int, cards: int, pids: Mapping[str, list[int]]
) -> Ceiling:
    """Let so many clients call the function as fast as they can.

    Args:
        url: of the database.
        clients: connections of pgbench.
        seconds: for how long.
        cards: of the population, all of them or 1 for a hot account.
        pids: groups of processes to meter beside pgbench.

    Raises:
        RuntimeError: pgbench failed; the text carries what it said.
    """
    script = SCRIPT.format(first=FIRST_CARD, last=FIRST_CARD + cards - 1, prefix=ID_PREFIX)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "authorize.sql")
        file.write_text(script)
        command = [str(find_binaries().bin_dir / "pgbench"), "--no-vacuum", "-M", "prepared"]
        command += ["-c", str(clients), "-j", "1", "-T", str(seconds), "-f", str(file)]
        command += ["--log", "--log-prefix", str(Path(directory, "log")), url]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
        ) as process:
            meter = CpuMeter({**pids, "generator": [process.pid]})
            try:
                process.wait(timeout=seconds - 0.2)
            except subprocess.TimeoutExpired:
                cores = meter.cores()
                output, _ = process.communicate(timeout=GRACE_S)
            else:
                output, _ = process.communicate()
                raise RuntimeError(f"pgbench ended early: {output[-2000:]}")
        if process.returncode:
            raise RuntimeError(f"pgbench ended with {process.returncode}: {output[-2000:]}")
        latency = _latencies(Path(directory))
    p50, p95, p99, greatest = (ns / 1e6 for ns in latency.percentiles((50, 95, 99, 100)))
    return Ceiling(
        clients=clients,
        seconds=seconds,
        requests=latency.count,
        failed=_failed(output),
        p50=p50,
        p95=p95,
        p99=p99,
        max=greatest,
        cores=cores,
    )


def _latencies(directory: Path) -> Histogram:
    """Of each transaction: the third field of a log line, in microseconds."""
    histogram = Histogram()
    for file in directory.glob("log.*"):
        with file.open() as lines:
            for line in lines:
                latency_us = line.split(" ", 3)[2]
                if latency_us.isdigit():
                    histogram.record(int(latency_us) * 1_000)
    return histogram


def _failed(output: str) -> int:
    lines = (line for line in output.splitlines() if line.startswith("number of failed"))
    return int(next(lines, "number of failed: 0 (").split(":")[1].split("(")[0])


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = (HERE / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _psql(url: str, sql: str, *, one_transaction: bool = True) -> str:
    command = [str(find_binaries().bin_dir / "psql"), "-X", "-q", "-A", "-t"]
    command += ["-1"] if one_transaction else []
    command += ["-v", "ON_ERROR_STOP=1", "-f", "-", url]
    done = subprocess.run(
        command, input=sql, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    if done.returncode:
        raise RuntimeError(f"psql ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout.strip()
