"""`tracing.py`: finished requests to a collector, where one is set."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from jitway import __version__
from jitway.clock import Clock
from jitway.errors import SettingsError
from jitway.profiler.spans import Kept, Spans
from jitway.settings import Settings


@asynccontextmanager
async def tracing(settings: Settings, clock: Clock) -> AsyncIterator[Spans | None]:
    """What requests are handed to; None where no collector is set, and then nothing is imported.

    Args:
        settings: of this process.
        clock: instants.

    Raises:
        SettingsError: the extra is not installed.
    """
    if settings.otel_endpoint is None:
        yield None
        return
    try:
        from jitway.adapters.opentelemetry import Call, OpenTelemetryAdapter, Part
    except ImportError as error:
        raise SettingsError(f"JITWAY_OTEL_ENDPOINT is set, but {error}") from error

    def call_of(kept: Kept) -> Call:
        attributes = {"jitway.decision": kept.decision, "jitway.request_id": kept.request_id}
        if kept.reason:
            attributes["jitway.reason"] = kept.reason
        return Call(
            "authorize",
            kept.ended_ns - kept.total_ns,
            kept.ended_ns,
            attributes,
            [Part(*laid) for laid in kept.laid_out()],
            parent=kept.parent,
            failed=kept.decision == "no_decision",
        )

    def export(batch: Sequence[Kept]) -> bool:
        return adapter.export([call_of(kept) for kept in batch])

    adapter = OpenTelemetryAdapter(settings.otel_endpoint, version=__version__)
    spans = Spans(export, clock.now, sample=settings.otel_sample)
    spans.start()
    try:
        yield spans
    finally:
        await spans.stop()
        adapter.close()
