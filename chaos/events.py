"""`events.py`: relay, consumers and broker are killed while events flow; nothing may be lost.

gateway (left alone) -> outbox -> 2 relays -> broker -> 2 workers -> effects, archive
                                  all of these are killed at random, and come back

then: broker away for a minute -> MongoDB away for minutes, under load both -> drained -> stopped
in order -> sets compared -> `jitway verify` -> forgeries named
"""

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from chaos import effects
from chaos.accounts import SetupFailed
from chaos.actions import Actions
from chaos.event_checker import Sets, compare, prove, read_sets
from chaos.event_load import EventLoad
from chaos.event_report import Report, document_of, show
from chaos.gateway import Gateway, GatewayFailed
from chaos.movers import CHECKOUT, ArchiveOfOurs, BrokerOfOurs, Mover
from chaos.violation import Violation
from chaos.witness import WITNESS, witnessed
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.embedded import EmbeddedPostgreSQL, reachable_data_dir, stop_left_behind
from jitway.errors import JitwayError
from jitway.events.broker import QUEUES, Broker
from jitway.events.local_broker import LocalBroker
from tests.servers.process import ServerMissing

EVENTS, EVENTS_QUICK = 100_000, 3_000
KILLS, KILLS_QUICK = 200, 16
PAUSE_MAX_S = 2.5
DRAINED_S = 900.0
OUTAGE_S, OUTAGE_QUICK_S = 60.0, 5.0
ARCHIVE_OUTAGE_S, ARCHIVE_OUTAGE_QUICK_S = 180.0, 10.0
# What a MongoDB from the package index can take in afterwards.
ARCHIVE_EVENTS_PER_S = 25.0


class EventRun:
    """One run on a directory of its own.

    Args:
        directory: empty.
        actions: where every kill is noted.
        seed: of its random choices.
        local: deliver without RabbitMQ.
    """

    def __init__(self, directory: Path, actions: Actions, seed: int, *, local: bool) -> None:
        self.report = Report(seed)
        self._directory = directory
        self._actions = actions
        self._dice = random.Random(seed)
        self._rabbitmq = None if local else BrokerOfOurs(directory / "rabbitmq")
        self._mongodb = ArchiveOfOurs(directory / "mongodb")
        self._movers: list[Mover] = []
        self._gateway: Gateway | None = None

    async def run(
        self, events: int, kills: int, *, outage_s: float = 0.0, archive_outage_s: float = 0.0
    ) -> None:
        """Everything, from an empty directory to the verdict.

        Args:
            events: at least so many, while everybody is killed.
            kills: at least so many.
            outage_s: how long the broker is away afterwards; 0 = never.
            archive_outage_s: how long MongoDB is; 0 = there is none.

        Raises:
            GatewayFailed, ServerMissing, JitwayError: it cannot even be begun.
        """
        data_dir = self._directory / "data"
        server = EmbeddedPostgreSQL(data_dir)
        try:
            url = await server.start()
            if self._rabbitmq is not None:
                await self._rabbitmq.start()
            await self._run_on(url, events, kills, outage_s, archive_outage_s)
        finally:
            for mover in self._movers:
                await mover.kill()
            if self._gateway is not None:
                await self._gateway.kill()
            if self._rabbitmq is not None:
                await self._rabbitmq.kill()
            await self._mongodb.kill()
            await server.stop()
            await stop_left_behind(data_dir)

    async def _run_on(
        self, url: str, events: int, kills: int, outage_s: float, archive_outage_s: float
    ) -> None:
        postgres = PostgreSQLAdapter(
            database_url=url, pool_size_min=1, pool_size_max=4, slow_query_ms=60_000
        )
        try:
            gateway = self._gateway = Gateway(
                self._directory / "data",
                self._directory / "gateway.log",
                {"DATABASE_URL": url, "JITWAY_WORK": "none"},
            )
            await gateway.command("init")
            _, made = await gateway.command("keys", "create")
            await postgres.execute_query(effects.TABLE)
            await gateway.start()
            broker = self._broker(postgres)
            await broker.connect()
            await self._begin(url)
            load = EventLoad(gateway.port, made["key"], self._choice())
            await self._strike_under_load(load, events, kills)
            self.report.drained_s = await self._drain(postgres, broker)
            if self._rabbitmq is not None and outage_s:
                await self._broker_away(self._rabbitmq, load, outage_s)
                self.report.outages["broker"].drained_s = await self._drain(postgres, broker)
            if archive_outage_s:
                await self._archive_away(load, archive_outage_s)
                self.report.outages["archive"].drained_s = await self._drain(postgres, broker)
            self.report.counts.update(load.counts)
            await self._stop()
            await gateway.terminate()
            await self._check(postgres, broker)
            await broker.close()
            _, self.report.books = await gateway.command("verify")
            self.report.violations += [Violation(**one) for one in self.report.books["violations"]]
        finally:
            await postgres.close()

    def _broker(self, postgres: PostgreSQLAdapter) -> Broker:
        """Ours: it declares the witness, and every queue before the first event."""
        queues = (*QUEUES, *(one.queue for one in effects.CONSUMERS), WITNESS)
        if self._rabbitmq is None:
            return LocalBroker(postgres, queues)
        from jitway.events.rabbitmq_broker import RabbitMQBroker

        return RabbitMQBroker.at(self._rabbitmq.url, queues)

    async def _begin(self, url: str) -> None:
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"DATABASE_URL": url, "JITWAY_ENV_FILE": os.devnull}
        if self._rabbitmq is not None:
            environment["RABBITMQ_URL"] = self._rabbitmq.url
        consuming = ("--only", "consumers", "--consumers", "chaos.effects")
        for number in (1, 2):
            for name, arguments in (("relay", ("--only", "relay")), ("worker", consuming)):
                log = self._directory / f"{name}-{number}.log"
                self._movers.append(Mover(f"{name}-{number}", arguments, environment, log))
        for mover in self._movers:
            await mover.start()
        for mover in self._movers:
            await mover.works()

    async def _strike_under_load(self, load: EventLoad, events: int, kills: int) -> None:
        await load.open()
        flowing = asyncio.create_task(load.run(events))
        try:
            # As long as events flow, and until there were enough.
            while not flowing.done() or self.report.kills.total() < kills:
                await self._strike()
                self._say(f"{self.report.kills.total()} kills, {load.made:,} events")
                await asyncio.sleep(self._dice.uniform(0, PAUSE_MAX_S))
            await flowing
        finally:
            flowing.cancel()
            await asyncio.wait({flowing})

    async def _strike(self) -> None:
        targets: list[Mover | BrokerOfOurs] = list(self._movers)
        if self._rabbitmq is not None and self._rabbitmq.is_up:
            targets.append(self._rabbitmq)
        target = self._dice.choice(targets)
        await target.strike()
        self.report.kills[target.name.partition("-")[0]] += 1
        self._actions.note("kill", target=target.name)

    async def _broker_away(self, rabbitmq: BrokerOfOurs, load: EventLoad, seconds: float) -> None:
        """Nobody can publish, and everything is decided all the same."""
        await rabbitmq.go()
        before = load.made
        await load.run_for(seconds)
        self.report.note_outage("broker", seconds, load.made - before)
        rabbitmq.come_back()

    async def _archive_away(self, load: EventLoad, seconds: float) -> None:
        """The archive moves into MongoDB, which goes away; what was kept before stays."""
        await self._mongodb.start()
        for mover in self._movers:
            if mover.name.startswith("worker"):
                await mover.restart_with(self._mongodb.settings)
                await mover.works()
        await load.run_for(seconds / 10, per_s=ARCHIVE_EVENTS_PER_S)
        await self._mongodb.kill()
        before = load.made
        await load.run_for(seconds, per_s=ARCHIVE_EVENTS_PER_S)
        self.report.note_outage("archive", seconds, load.made - before)
        await self._mongodb.start()

    async def _drain(self, postgres: PostgreSQLAdapter, broker: Broker) -> float:
        """Heals, and waits until nothing is under way any more; seconds that it took."""
        began_s = time.monotonic()
        if self._rabbitmq is not None:
            await self._rabbitmq.works()
        # A mover that was struck a moment ago may not have begun yet; its pipe says when it has.
        for mover in self._movers:
            await mover.works()
        try:
            async with asyncio.timeout(DRAINED_S):
                while not await self._is_drained(postgres, broker):
                    self._say("draining")
                    await asyncio.sleep(0.2)
        except TimeoutError:
            left = await postgres.execute_query(
                "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL"
            )
            detail = f"{left[0]['n']} events unpublished after {DRAINED_S:.0f} s"
            self.report.violations.append(Violation("drains", "outbox", detail))
        return time.monotonic() - began_s

    async def _is_drained(self, postgres: PostgreSQLAdapter, broker: Broker) -> bool:
        rows = await postgres.execute_query(
            "SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS waiting,"
            " (SELECT count(*) FROM outbox) AS events,"
            " (SELECT count(DISTINCT event_id) FROM effect) AS effects,"
            " (SELECT count(*) FROM inbox WHERE consumer = ANY ($1)) AS archived,"
            " (SELECT count(*) FROM outbox WHERE type ~ '^(jit|tran)') AS to_archive",
            [[queue.name for queue in QUEUES]],
        )
        row = rows[0]
        if row["waiting"] or row["effects"] < row["events"] or row["archived"] < row["to_archive"]:
            return False
        names = [queue.name for queue in (*QUEUES, *(one.queue for one in effects.CONSUMERS))]
        try:
            return not any([await broker.depth(name) for name in names])
        except JitwayError:
            return False

    async def _stop(self) -> None:
        """SIGTERM for everybody: within ten seconds, and well."""
        for mover in self._movers:
            code, took_s = await mover.terminate()
            self.report.stop_s.append(took_s)
            if code != 0 or took_s > 10:
                detail = f"exit code {code} after {took_s:.1f} s"
                self.report.violations.append(Violation("stops", mover.name, detail))

    async def _check(self, postgres: PostgreSQLAdapter, broker: Broker) -> None:
        self._say("checking")
        sets = await read_sets(
            postgres,
            await witnessed(broker, await self._number_of_events(postgres)),
            kept_elsewhere=await self._mongodb.amounts(),
        )
        found = compare(sets)
        for queue in (*QUEUES, *(one.queue for one in effects.CONSUMERS)):
            for letter in await broker.dead(queue.name):
                found.append(Violation("nothing_is_buried", letter.id, letter.cause))
        self._note(sets)
        self.report.violations += found
        if not found:
            self.report.violations += await prove(postgres, sets)
            self.report.counts["forgeries_named"] = 2

    async def _number_of_events(self, postgres: PostgreSQLAdapter) -> int:
        rows = await postgres.execute_query(
            "SELECT count(*) AS n FROM outbox WHERE published_at IS NOT NULL"
        )
        return int(rows[0]["n"])

    def _note(self, sets: Sets) -> None:
        self.report.counts.update(
            events=len(sets.decided),
            effects=len(sets.applied),
            arrivals=len(sets.witnessed),
            archived=len(sets.archived),
        )

    def _choice(self) -> int:
        return self._dice.randrange(2**32)

    def _say(self, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[Kchaos: {what}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs `scripts/chaos events`; the exit code is 1 when something must not be."""
    options = _options(arguments)
    place = reachable_data_dir(CHECKOUT / ".chaos", "chaos")
    for directory in {place, CHECKOUT / ".chaos"}:
        directory.mkdir(parents=True, exist_ok=True)
    (CHECKOUT / ".chaos" / ".gitignore").write_text("*\n")
    directory = Path(tempfile.mkdtemp(prefix="events-", dir=place))
    directory.chmod(0o711)
    actions = Actions(CHECKOUT / ".chaos" / f"{directory.name}.jsonl")
    actions.note("begin", seed=options.seed, kills=options.kills, events=options.events)
    print(f"chaos: seed {options.seed}", file=sys.stderr)
    # That connections are lost is what happens here.
    logging.getLogger("jitway").setLevel(logging.ERROR)
    run = EventRun(directory, actions, options.seed, local=options.local)
    began_s = time.monotonic()
    try:
        uvloop.run(
            run.run(
                options.events,
                options.kills,
                outage_s=options.outage,
                archive_outage_s=options.archive_outage,
            )
        )
    except (GatewayFailed, SetupFailed, ServerMissing, JitwayError, TimeoutError) as error:
        run.report.violations.append(
            Violation("runs", "process", f"{type(error).__name__} {error}")
        )
    except KeyboardInterrupt:
        return 130
    finally:
        actions.close()
    document = document_of(run.report, time.monotonic() - began_s)
    if options.json:
        print(json.dumps(document))
    else:
        show(document)
    print(f"chaos: every kill is in {actions.path}", file=sys.stderr)
    if run.report.violations:
        print(f"chaos: the data is kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos events",
        description="SIGKILL for relays, workers and broker while events flow; exit code 1 when "
        "one is lost, applied twice, altered or out of order.",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{EVENTS_QUICK} events, {KILLS_QUICK} kills"
    )
    parser.add_argument("--kills", type=int, help=f"at least so many (default {KILLS})")
    parser.add_argument("--events", type=int, help=f"at least so many (default {EVENTS})")
    parser.add_argument("--seed", type=int, help="repeats a run's random choices")
    parser.add_argument(
        "--outage", type=float, metavar="SECONDS", help=f"of the broker (default {OUTAGE_S:.0f})"
    )
    parser.add_argument(
        "--archive-outage",
        type=float,
        metavar="SECONDS",
        help=f"of MongoDB (default {ARCHIVE_OUTAGE_S:.0f})",
    )
    parser.add_argument("--local", action="store_true", help="deliver without RabbitMQ")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    if options.kills is None:
        options.kills = KILLS_QUICK if options.quick else KILLS
    if options.events is None:
        options.events = EVENTS_QUICK if options.quick else EVENTS
    if options.kills < 0 or options.events < 1:
        parser.error("--kills must not be negative, --events not below 1")
    if options.outage is None:
        options.outage = OUTAGE_QUICK_S if options.quick else OUTAGE_S
    if options.archive_outage is None:
        options.archive_outage = ARCHIVE_OUTAGE_QUICK_S if options.quick else ARCHIVE_OUTAGE_S
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "big")
    return options
