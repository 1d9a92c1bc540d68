"""Authorizations as spans at a real collector, a dead one and one that hangs."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from jitway.adapters.opentelemetry import Call, OpenTelemetryAdapter
from jitway.clock import SystemClock
from jitway.compose.tracing import tracing
from jitway.errors import SettingsError
from jitway.profiler.trace import STAGES
from jitway.settings import load
from tests.integration.http.gateway import Gateway, serving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WAIT_S = 20


class Collector:
    """Takes what is posted and keeps it; answers with `status`, or never when that is 0."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self._more = asyncio.Condition()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    async def requests(self, count: int) -> list[Span]:
        """The first so many spans of whole requests, when they have come."""
        async with asyncio.timeout(WAIT_S), self._more:
            await self._more.wait_for(lambda: len(self._whole()) >= count)
        return self._whole()

    def _whole(self) -> list[Span]:
        return [span for span in self.spans if span.name == "authorize"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(fields["content-length"]))
                async with self._more:
                    self.asked.append((head[0], fields))
                    self.bodies.append(body)
                    self._more.notify_all()
                if self.status:
                    writer.write(f"HTTP/1.1 {self.status} x\r\ncontent-length: 0\r\n\r\n".encode())
        self._open.discard(writer)
        writer.close()

    def close(self) -> None:
        for writer in self._open:
            writer.close()


@contextlib.asynccontextmanager
async def collecting(status: int = 200) -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector(status)
    server = await asyncio.start_server(collector.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.close()
        collector.close()


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def told_of(span: Span) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span.attributes}


def traces(gateway: Gateway) -> dict[str, int]:
    assert gateway.services.spans is not None
    return gateway.services.spans.counts


async def counted(gateway: Gateway, least: int, *results: str) -> None:
    """Waits until so many requests ended in one of these ways."""
    async with asyncio.timeout(WAIT_S):
        while sum(traces(gateway)[result] for result in results) < least:
            await asyncio.sleep(0.01)


async def test_an_authorization_is_a_span_with_its_stages(database: str, tmp_path: Path) -> None:
    async with (
        collecting() as (collector, url),
        serving(database, tmp_path, JITWAY_OTEL_ENDPOINT=url, JITWAY_OTEL_SAMPLE="1") as gateway,
    ):
        card = gateway.card["id"]
        body = {"card": card, "amount": 123_457, "currency": "USD", "merchant": {"name": "Zebra"}}
        declined = await gateway.post("/v1/authorizations", body)
        child = await gateway.post(
            "/v1/authorizations",
            {"card": card, "amount": 1, "currency": "USD"},
            traceparent=f"00-{TRACE}-{SPAN}-01",
        )
        await gateway.post(
            "/v1/authorizations",
            {"card": card, "amount": 1, "currency": "USD"},
            traceparent=f"00-{TRACE.upper()}-{SPAN}-01",
        )
        whole = await collector.requests(3)
        await counted(gateway, 3, "exported")
        metrics = (await gateway.get("/metrics")).body.decode()

    by_id = {told_of(span)["jitway.request_id"]: span for span in whole}
    first = by_id[declined.headers["x-request-id"]]
    assert told_of(first) == {
        "jitway.decision": "declined",
        "jitway.reason": declined.json["reason"],
        "jitway.request_id": declined.headers["x-request-id"],
    }
    assert first.kind == Span.SPAN_KIND_SERVER
    assert first.status.code == Status.STATUS_CODE_UNSET
    assert not first.parent_span_id
    second = by_id[child.headers["x-request-id"]]
    assert (second.trace_id.hex(), second.parent_span_id.hex()) == (TRACE, SPAN)
    assert [bool(span.parent_span_id) for span in whole] == [False, True, False]
    assert len({span.trace_id for span in whole}) == 3

    for span in whole:
        stages_are_laid_out(span, collector.spans)
    assert collector.asked[0][0] == "POST /v1/traces HTTP/1.1"
    assert collector.asked[0][1]["content-type"] == "application/x-protobuf"
    everything = b"".join(collector.bodies)
    of_program = (gateway.program, gateway.cardholder, gateway.account, gateway.card)
    ids = [one["id"].partition("_")[2] for one in of_program]
    for unsaid in (*ids, "Zebra", "123457", "USD", gateway.key):
        assert unsaid.encode() not in everything
    assert 'jitway_otel_traces_total{result="exported"} 3.0' in metrics


def stages_are_laid_out(whole: Span, spans: list[Span]) -> None:
    below = [span for span in spans if span.parent_span_id == whole.span_id]
    order = [stage.label for stage in STAGES]
    positions = [order.index(span.name) for span in below]
    assert len(below) >= 5
    assert positions == sorted(set(positions))
    assert {span.trace_id for span in below} == {whole.trace_id}
    assert len({span.span_id for span in below}) == len(below)
    edges = [whole.start_time_unix_nano]
    for span in below:
        assert span.start_time_unix_nano == edges[-1]
        edges.append(span.end_time_unix_nano)
    assert edges[-1] == whole.end_time_unix_nano


async def test_a_dead_collector_costs_nothing_but_the_spans(
    database: str, tmp_path: Path, nowhere: str
) -> None:
    async with serving(
        database, tmp_path, JITWAY_OTEL_ENDPOINT=nowhere, JITWAY_OTEL_SAMPLE="1"
    ) as gateway:
        for _ in range(3):
            assert (await gateway.authorize(amount=1)).json["decision"] == "approved"
        await counted(gateway, 1, "failed")
    await counted(gateway, 3, "failed", "dropped")
    assert traces(gateway)["exported"] == 0


async def test_a_collector_that_hangs_holds_neither_answers_nor_the_stop(
    database: str, tmp_path: Path
) -> None:
    async with collecting(status=0) as (collector, url):
        async with serving(
            database, tmp_path, JITWAY_OTEL_ENDPOINT=f"{url}/x", JITWAY_OTEL_SAMPLE="1"
        ) as gateway:
            assert (await gateway.authorize(amount=1)).status == 200
            await collector.requests(1)
            assert (await gateway.authorize(amount=1)).json["decision"] == "approved"
            assert collector.asked[0][0] == "POST /x HTTP/1.1"
        await counted(gateway, 2, "failed", "dropped")
        assert traces(gateway)["exported"] == 0


async def test_without_a_share_only_a_caller_that_tells_its_span_is_told(
    database: str, tmp_path: Path
) -> None:
    async with (
        collecting() as (collector, url),
        serving(database, tmp_path, JITWAY_OTEL_ENDPOINT=url, JITWAY_OTEL_SAMPLE="0") as gateway,
    ):
        body: dict[str, Any] = {"card": gateway.card["id"], "amount": 1, "currency": "USD"}
        assert gateway.services.spans is not None
        gateway.services.spans._slow_ns = 60_000_000_000  # a loaded machine makes slow ones
        await gateway.post("/v1/authorizations", body)
        await gateway.post("/v1/authorizations", body, traceparent=f"00-{TRACE}-{SPAN}-00")
        await gateway.post("/v1/authorizations", body, traceparent=f"00-{TRACE}-{SPAN}-01")
        (told,) = await collector.requests(1)
    assert told.trace_id.hex() == TRACE
    assert len(await collector.requests(1)) == 1


async def test_without_a_collector_there_is_nothing_to_hand_to(
    database: str, tmp_path: Path
) -> None:
    async with serving(database, tmp_path, furnished=False) as gateway:
        assert gateway.services.spans is None
        metrics = (await gateway.get("/metrics")).body.decode()
    assert 'jitway_otel_traces_total{result="dropped"} 0.0' in metrics


async def test_a_collector_without_the_extra_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"HOME": str(tmp_path), "JITWAY_OTEL_ENDPOINT": "http://u:hidden@127.0.0.1:1"}
    settings = load(environ, tmp_path)
    assert "hidden" not in repr(settings)
    monkeypatch.setitem(sys.modules, "jitway.adapters.opentelemetry", None)
    with pytest.raises(SettingsError, match="JITWAY_OTEL_ENDPOINT is set, but"):
        await tracing(settings, SystemClock()).__aenter__()


@pytest.mark.parametrize("status", [0, 400, 503])
async def test_what_a_collector_does_not_take_is_said_within_bounds(status: int) -> None:
    async with collecting(status) as (collector, url):
        adapter = OpenTelemetryAdapter(url, version="1", export_s=0.1)
        call = Call("authorize", 1, 2, {}, [], failed=True)
        try:
            async with asyncio.timeout(WAIT_S):
                assert await asyncio.to_thread(adapter.export, [call]) is False
            (span,) = collector.spans[:1]
            assert span.status.code == Status.STATUS_CODE_ERROR
        finally:
            adapter.close()
            adapter.close()


async def test_the_resource_says_who_and_the_sdks_own_variables_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "payments")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc")
    async with collecting() as (collector, url):
        adapter = OpenTelemetryAdapter(url, version="1.2.3")
        try:
            assert await asyncio.to_thread(adapter.export, [Call("authorize", 1, 2, {}, [])])
        finally:
            adapter.close()
    resource = ExportTraceServiceRequest.FromString(collector.bodies[0]).resource_spans[0].resource
    told = {pair.key: pair.value.string_value for pair in resource.attributes}
    assert told == {"service.name": "payments", "service.version": "1.2.3"}
    assert collector.asked[0][1]["x-token"] == "abc"
