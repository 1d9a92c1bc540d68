"""`kill.py`: callers at work, SIGKILL for whoever serves them, and the proof that nothing was lost.

    round: start -> accounts -> callers || strikes -> silence -> repeats -> stop in order
           -> rows against history -> `jitway verify`

A long run is many rounds, each with accounts and a history of its own, so that memory stays small.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from chaos.accounts import SetupFailed
from chaos.actions import Actions
from chaos.checker import check
from chaos.gateway import Gateway, GatewayFailed
from chaos.history import History
from chaos.load import Load
from chaos.nemesis import Nemesis, Target
from chaos.proof import Proof, prove
from chaos.rows import read_ledger
from chaos.server import Server
from chaos.violation import Violation
from jitway.embedded import EmbeddedPostgreSQL, reachable_data_dir, stop_left_behind
from jitway.errors import JitwayError

CHECKOUT = Path(__file__).resolve().parent.parent
KILLS = 200
KILLS_QUICK = 50
KILLS_PER_ROUND = 100
WARM_S = 1.0
REPEATED_MAX = 1_000
SHOWN_MAX = 20


@dataclass(slots=True)
class Report:
    """What a run came to.

    Args:
        seed: of its random choices.
        violations: everything that must not be.
        counts: calls and how their attempts ended, repeats, rows.
        proofs: what the checker made of forgeries.
        books: of the last `jitway verify`.
        second_start_s: of a start after a clean stop.
    """

    seed: int
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    proofs: list[Proof] = field(default_factory=list)
    books: dict[str, Any] = field(default_factory=dict)
    second_start_s: float = 0.0


class KillRun:
    """One run on one data directory.

    Args:
        data_dir: empty.
        actions: where every action is noted.
        seed: of its random choices.
    """

    def __init__(self, data_dir: Path, actions: Actions, seed: int) -> None:
        self.report = Report(seed)
        self._data_dir = data_dir
        self._actions = actions
        self._dice = random.Random(seed)
        self._gateway = Gateway(data_dir, data_dir / "gateway.log")
        self._server = Server(data_dir)
        self.nemesis = Nemesis(self._gateway, self._server, actions, self._dice)
        self._key = ""

    async def run(self, kills: int, *, proving: bool) -> None:
        """Rounds until so many were killed; then the proof, and a second start.

        Raises:
            GatewayFailed: it cannot even be begun.
        """
        await self._gateway.command("init")
        _, made = await self._gateway.command("keys", "create")
        self._key = made["key"]
        try:
            while True:
                last = kills <= KILLS_PER_ROUND
                await self._round(min(kills, KILLS_PER_ROUND), proving=proving and last)
                kills -= KILLS_PER_ROUND
                if last:
                    break
            await self.nemesis.begin()
            self.report.second_start_s = self.nemesis.start_s.pop()
            await self.nemesis.end()
        finally:
            await self._gateway.kill()
            # Nothing but the data outlives us, however this ends.
            await stop_left_behind(self._data_dir)
            self.report.violations += self.nemesis.violations

    async def _round(self, kills: int, *, proving: bool) -> None:
        await self.nemesis.begin()
        load = Load(self._gateway.port, self._key, self._dice.randrange(2**32))
        await load.open()
        load.start()
        await asyncio.sleep(WARM_S)
        while kills > 0:
            kills -= await self.nemesis.strike(load)
            self._say(f"{self.nemesis.strikes.total()} kills, {len(load.history.calls)} calls")
        await load.stop()
        self.report.counts["repeats"] += await load.repeat(REPEATED_MAX)
        if proving:
            await load.approve_one_each()
        await self.nemesis.end()
        await self._check(load.history, proving=proving)

    async def _check(self, history: History, *, proving: bool) -> None:
        """Everything at rest: rows against history, the books, the proof."""
        self._say("checking")
        report = self.report
        server = EmbeddedPostgreSQL(self._data_dir)
        url = await server.start()
        try:
            ledger = await read_ledger(url, history)
            checked = check(history, ledger)
            report.violations += checked.violations
            report.counts.update(history.counts())
            report.counts["changes"] += checked.changes
            if ledger.changes != report.counts["changes"]:
                detail = f"{ledger.changes} in the ledger, {report.counts['changes']} asked for"
                report.violations.append(Violation("rows_were_asked_for", "all", detail))
            _, report.books = await self._gateway.command("verify")
            for one in report.books["violations"]:
                report.violations.append(Violation(**one))
            if proving:
                report.proofs = await prove(url, history)
                report.violations += [
                    Violation("checker_notices", one.subject, f"it was {one.forgery} unnoticed")
                    for one in report.proofs
                    if not one.noticed
                ]
        finally:
            await server.stop()
        if checked.violations:
            self._keep(history, checked.violations)

    def _keep(self, history: History, violations: Sequence[Violation]) -> None:
        """Leaves what the callers of the accounts in question saw, for whoever looks for why."""
        for account in {one.account for one in violations if one.account}:
            with (self._data_dir / f"history-{account}.jsonl").open("w") as file:
                file.writelines(f"{line}\n" for line in history.lines(account))

    def _say(self, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[Kchaos: {what}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs `scripts/chaos kill`; the exit code is 1 when something must not be."""
    options = _options(arguments)
    place = reachable_data_dir(CHECKOUT / ".chaos", "chaos")
    for directory in {place, CHECKOUT / ".chaos"}:
        directory.mkdir(parents=True, exist_ok=True)
    # Nothing here is for git.
    (CHECKOUT / ".chaos" / ".gitignore").write_text("*\n")
    data_dir = Path(tempfile.mkdtemp(prefix="kill-", dir=place))
    data_dir.chmod(0o711)
    actions = Actions(CHECKOUT / ".chaos" / f"{data_dir.name}.jsonl")
    actions.note("begin", seed=options.seed, kills=options.kills)
    run = KillRun(data_dir, actions, options.seed)
    began_s = time.monotonic()
    try:
        uvloop.run(run.run(options.kills, proving=options.prove))
    except (GatewayFailed, SetupFailed, JitwayError, TimeoutError) as error:
        run.report.violations.append(
            Violation("runs", "process", f"{type(error).__name__} {error}")
        )
    except KeyboardInterrupt:
        return 130
    finally:
        actions.close()
    document = _document(run, time.monotonic() - began_s)
    if options.json:
        print(json.dumps(document))
    else:
        _show(document)
    print(f"chaos: every action is in {actions.path}", file=sys.stderr)
    if run.report.violations:
        print(f"chaos: the data is kept in {data_dir}", file=sys.stderr)
        return 1
    shutil.rmtree(data_dir, ignore_errors=True)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos kill",
        description="SIGKILL for gateway and PostgreSQL under load; exit code 1 on a violation.",
    )
    parser.add_argument("--quick", action="store_true", help=f"{KILLS_QUICK} kills, and --prove")
    parser.add_argument("--kills", type=int, help=f"how many (default {KILLS})")
    parser.add_argument("--seed", type=int, help="repeats a run's random choices")
    parser.add_argument("--prove", action="store_true", help="prove the checker with forgeries")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    if options.kills is None:
        options.kills = KILLS_QUICK if options.quick else KILLS
    if options.kills < 0:
        parser.error("--kills must not be negative")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "big")
    options.prove = options.prove or options.quick
    return options


def _document(run: KillRun, seconds: float) -> dict[str, Any]:
    report, nemesis = run.report, run.nemesis
    return {
        "ok": not report.violations,
        "seed": report.seed,
        "seconds": round(seconds, 1),
        "kills": {"total": nemesis.strikes.total(), **{t: nemesis.strikes[t] for t in Target}},
        "silent_ms": {target: _spread(nemesis.silent_ms[target]) for target in Target},
        "start_s": _spread(nemesis.start_s),
        "second_start_s": round(report.second_start_s, 3),
        "stop_s": _spread(nemesis.stop_s),
        "history": dict(report.counts),
        "verify": {"ok": report.books.get("ok"), "checked": report.books.get("checked")},
        "proof": [one.document for one in report.proofs],
        "violations": [one.document for one in report.violations],
    }


def _spread(figures: Sequence[float]) -> dict[str, float]:
    if not figures:
        return {"count": 0}
    return {
        "count": len(figures),
        "median": round(statistics.median(figures), 3),
        "max": round(max(figures), 3),
    }


def _show(document: dict[str, Any]) -> None:
    history, kills = document["history"], document["kills"]
    print(f"seed {document['seed']}, {kills['total']} kills in {document['seconds']} s")
    print(
        f"{history.get('calls', 0):,} calls: attempts {history.get('ok', 0):,} ok, "
        f"{history.get('fail', 0):,} fail, {history.get('unknown', 0):,} unknown; "
        f"{history.get('repeats', 0):,} repeats; {history.get('changes', 0):,} rows replayed"
    )
    print(f"\n{'killed':<12}{'kills':>6}{'silent ms, median':>20}{'max':>8}")
    for target in Target:
        silent = document["silent_ms"][target]
        median, most = silent.get("median", 0), silent.get("max", 0)
        print(f"{target:<12}{kills[target]:>6}{median:>20.0f}{most:>8.0f}")
    start, stop = document["start_s"], document["stop_s"]
    print(
        f"\nstart after a kill: median {start.get('median', 0):.2f} s, most "
        f"{start.get('max', 0):.2f} s; after a clean stop {document['second_start_s']:.2f} s; "
        f"stop: most {stop.get('max', 0):.2f} s"
    )
    for proof in document["proof"]:
        noticed = "noticed" if proof["noticed"] else "NOT NOTICED"
        print(
            f"proof: one approval {proof['forgery']}: {noticed} ({', '.join(proof['violations'])})"
        )
    for one in document["violations"][:SHOWN_MAX]:
        print(f"VIOLATED {one['invariant']} {one['subject']}: {one['detail']}")
    if len(document["violations"]) > SHOWN_MAX:
        print(f"VIOLATED and {len(document['violations']) - SHOWN_MAX} more")
    print("Nothing was lost." if document["ok"] else "Something is WRONG.")
