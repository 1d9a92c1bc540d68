"""`serving.py`: settings in, running services out.

Opens in order, closes in reverse, and stops half-way as cleanly as at the end.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.archive.retention import Retention
from jitway.archive.store import Archive
from jitway.cache.views import CardViews
from jitway.clock import Clock, SystemClock
from jitway.compose.alerting import alerting
from jitway.compose.archives import archive_days, archive_of
from jitway.compose.card_views import card_views
from jitway.compose.messaging import Role, event_work, role_of
from jitway.compose.stores import stores
from jitway.compose.tracing import tracing
from jitway.database import DatabaseManager
from jitway.events.consumer import Subscription
from jitway.events.dead_letter import DeadLetters
from jitway.events.work import EventWork
from jitway.gateway.alerts import Alerts
from jitway.gateway.authorize import AuthorizeOptions, Authorizer
from jitway.gateway.key_expiry import KeyExpiry
from jitway.gateway.sweep import ExpirySweep
from jitway.profiler.profiler import Profiler
from jitway.profiler.spans import Spans
from jitway.settings import Settings
from jitway.sql.migrate import check_schema
from jitway.supervisor import Crew

_log = structlog.get_logger("jitway.compose")


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that runs; made and ended by `services`.

    Args:
        settings: what it was made from.
        clock: instants and ids.
        manager: every store, and how it is.
        postgres: the ledger.
        archive: copies of what happened, to search.
        views: cards with everything above them.
        authorizer: decides authorizations.
        profiler: times them.
        work: what this process does with events.
        dead_letters: what could not be delivered.
        alerts: what an operator should hear of.
        spans: what finished requests are handed to, where a collector is set.
        crew: the workers of this gateway, when there are several.
    """

    settings: Settings
    clock: Clock
    manager: DatabaseManager
    postgres: PostgreSQLAdapter
    archive: Archive
    views: CardViews
    authorizer: Authorizer
    profiler: Profiler
    work: EventWork
    dead_letters: DeadLetters
    alerts: Alerts
    spans: Spans | None = None
    crew: Crew | None = None


@asynccontextmanager
async def services(
    settings: Settings,
    *,
    clock: Clock | None = None,
    role: Role | None = None,
    consumers: Sequence[Subscription] = (),
) -> AsyncIterator[Services]:
    """Everything that serves, opened in order.

    Args:
        settings: of this process.
        clock: the system's when None.
        role: what it does with events; what the settings say when None.
        consumers: of others, beside our own.

    Raises:
        EmbeddedServerError: the embedded server cannot be started.
        LedgerUnavailable: PostgreSQL cannot be reached.
        SettingsError: PostgreSQL could lose commits.
        SchemaMismatch: the schema is not one this release can serve.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        manager = await stack.enter_async_context(stores(settings, clock=clock))
        postgres = manager.postgres
        await postgres.check_durability(allow_unsafe=settings.unsafe_durability)
        for name in await check_schema(postgres):
            _log.warning("migration_pending", migration=name)
        profiler = Profiler(clock)
        profiler.watch()
        stack.callback(profiler.close)
        spans = await stack.enter_async_context(tracing(settings, clock))
        views = await stack.enter_async_context(
            card_views(
                manager, clock, count=profiler.count_lookup, entries_max=settings.card_views_max
            )
        )
        authorizer = Authorizer(
            postgres, views, clock, _authorize_options(settings), profiler=profiler
        )
        stack.push_async_callback(authorizer.close)
        await authorizer.start()
        archive = archive_of(manager)
        for by_the_clock in _by_the_clock(settings, postgres, clock, archive):
            stack.push_async_callback(by_the_clock.stop)
            by_the_clock.start()
        work = event_work(
            settings,
            manager,
            clock,
            role=role or role_of(settings),
            archive=archive,
            authorizer=authorizer,
            consumers=consumers,
        )
        stack.push_async_callback(work.stop)
        await work.start()
        alerts = await stack.enter_async_context(alerting(postgres, clock, profiler, work))
        dead = DeadLetters(work.broker, postgres, clock)
        yield Services(
            settings,
            clock,
            manager,
            postgres,
            archive,
            views,
            authorizer,
            profiler,
            work,
            dead,
            alerts,
            spans,
        )


def _by_the_clock(
    settings: Settings, postgres: PostgreSQLAdapter, clock: Clock, archive: Archive
) -> tuple[ExpirySweep, KeyExpiry, Retention]:
    """What ends with time: holds, idempotency keys, and copies in the archive."""
    return (
        ExpirySweep(postgres, clock, interval_s=settings.expiry_sweep_s),
        KeyExpiry(postgres, clock, timedelta(days=settings.idempotency_days)),
        Retention(archive, clock, archive_days(settings)),
    )


def _authorize_options(settings: Settings) -> AuthorizeOptions:
    return AuthorizeOptions(
        budget_ms=settings.decision_budget_ms,
        hold_ttl_s=settings.hold_ttl_s,
        batch_size_max=settings.batch_size_max,
        waiting_max=settings.waiting_max,
        lanes=settings.lanes,
        statement_timeout_ms=settings.batch_statement_timeout_ms,
    )
