"""`examine.py`: every look at once, each within two seconds, whatever the others do.

A look that is late keeps what it saw until then. What it opened is closed in any case.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from jitway.doctor.addresses import unencrypted_host
from jitway.doctor.findings import DISABLED, UNREACHABLE, Seen
from jitway.errors import JitwayError, SettingsError
from jitway.health import SLOW_MS

LOOK_S = 2.0
# Drivers wait for a connect under way, a second at most; this is for one that hangs.
CLOSE_S = 3.0

Look: TypeAlias = Callable[[Seen, AsyncExitStack], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be looked at.

    Args:
        database_url: None = the embedded PostgreSQL.
        mongodb_uri: None = not used; the same for the next two.
        mongodb_db: the archive's database.
        redis_url: of the cache.
        rabbitmq_url: of the broker.
        data_dir: of the embedded PostgreSQL.
        workers: processes that serve.
        pool_max: pooled connections of one process.
        lanes: batches at once of one process.
        slow_query_ms: a statement that runs longer is slow.
    """

    database_url: str | None = None
    mongodb_uri: str | None = None
    mongodb_db: str = "jitway"
    redis_url: str | None = None
    rabbitmq_url: str | None = None
    data_dir: Path
    workers: int = 1
    pool_max: int = 20
    lanes: int = 1
    slow_query_ms: int = 100


async def examine(plan: Plan) -> list[Seen]:
    """Looks at every store; takes about three seconds at most.

    Args:
        plan: what to look at.

    Returns:
        PostgreSQL, MongoDB, Redis, RabbitMQ, in this order.
    """
    # Made before any of them looks: a driver that is being imported would slow the others down.
    looks = [
        _postgres(plan),
        _unless_missing("mongodb", _mongodb, plan),
        _unless_missing("redis", _redis, plan),
        _unless_missing("message_queue", _message_queue, plan),
    ]
    return list(await asyncio.gather(*looks))


def _unless_missing(
    subject: str, look: Callable[[Plan], Awaitable[Seen]], plan: Plan
) -> Awaitable[Seen]:
    try:
        return look(plan)
    except ImportError as missing:
        return _not_installed(subject, str(missing))


async def _not_installed(subject: str, why: str) -> Seen:
    seen = Seen(subject)
    seen.find("not_installed", why)
    return seen


def _postgres(plan: Plan) -> Awaitable[Seen]:
    from jitway.doctor.postgresql import PostgreSQLLook

    look = PostgreSQLLook(
        database_url=plan.database_url,
        data_dir=plan.data_dir,
        connections_wanted=plan.workers * connections_of_one_process(plan.pool_max, plan.lanes),
        pool_max=plan.workers * plan.pool_max,
        slow_query_ms=plan.slow_query_ms,
    )
    return _bounded(Seen("postgres"), look, plan.database_url)


def _mongodb(plan: Plan) -> Awaitable[Seen]:
    if not plan.mongodb_uri:
        return _disabled("mongodb")
    from jitway.doctor.archive import MongoDBLook

    look = MongoDBLook(plan.mongodb_uri, plan.mongodb_db)
    return _bounded(Seen("mongodb"), look, plan.mongodb_uri)


def _redis(plan: Plan) -> Awaitable[Seen]:
    if not plan.redis_url:
        return _disabled("redis")
    from jitway.doctor.cache import RedisLook

    return _bounded(Seen("redis"), RedisLook(plan.redis_url), plan.redis_url)


def _message_queue(plan: Plan) -> Awaitable[Seen]:
    if not plan.rabbitmq_url:
        return _disabled("message_queue")
    from jitway.doctor.queues import RabbitMQLook

    look = RabbitMQLook(plan.rabbitmq_url)
    return _bounded(Seen("message_queue"), look, plan.rabbitmq_url)


async def _disabled(subject: str) -> Seen:
    return Seen(subject, status=DISABLED)


def connections_of_one_process(pool_max: int, lanes: int) -> int:
    """The most connections to PostgreSQL that a gateway or a worker opens.

    The pool; two for each lane; and one each for health, relay, metrics and rehearsals.
    """
    return pool_max + 2 * lanes + 4


async def _bounded(seen: Seen, look: Look, address: str | None) -> Seen:
    """One look within its time; what it raises becomes a finding."""
    if address and (host := unencrypted_host(address)):
        seen.find("unencrypted", f"{host} is spoken to without TLS")
    stack = AsyncExitStack()
    try:
        async with asyncio.timeout(LOOK_S):
            await look(seen, stack)
    except SettingsError as error:
        seen.find("bad_setting", str(error))
    except JitwayError as error:
        seen.find("unreachable" if seen.status == UNREACHABLE else "slow_answer", str(error))
    except TimeoutError:
        if seen.status == UNREACHABLE:
            seen.find("unreachable", f"{seen.address or 'it'}: no answer within {LOOK_S:g} s")
        else:
            seen.find("slow_answer", f"not everything was answered within {LOOK_S:g} s")
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await stack.aclose()
    if seen.latency_ms is not None and seen.latency_ms > SLOW_MS:
        seen.find("slow_answer", f"{seen.latency_ms:.0f} ms for a sign of life")
    return seen
