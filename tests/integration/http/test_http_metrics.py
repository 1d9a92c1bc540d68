"""`GET /metrics`: what it counts is what happened, and the dashboard asks for nothing else."""

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jitway.supervisor.families import GAUGES
from jitway.web import metrics
from jitway.web.metrics import Metrics
from tests.integration.http.gateway import Gateway, serving

OPS = Path(__file__).resolve().parents[3] / "ops"
NO_LABELS: frozenset[tuple[str, str]] = frozenset()
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def every_scrape_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Metrics.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "kept_s", 0.0)


async def scraped(gateway: Gateway) -> Samples:
    response = await gateway.get("/metrics", Authorization="")
    assert response.status == 200
    assert response.headers["content-type"] == metrics.CONTENT_TYPE.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def test_decisions_are_the_rows_of_the_ledger(gateway: Gateway) -> None:
    frozen = await gateway.new_card()
    await gateway.post(f"/v1/cards/{frozen['id']}/freeze")
    for amount in (100, 200, 300):
        await gateway.authorize(amount=amount)
    await gateway.authorize(amount=1_000_000)
    await gateway.authorize(currency="EUR")
    await gateway.authorize(card=frozen["id"])
    await gateway.authorize(card="crd_" + "0" * 32)
    # None of these decides anything new.
    body = {"card": gateway.card["id"], "amount": 400, "currency": "USD"}
    for _ in range(3):
        await gateway.post("/v1/authorizations", body, Idempotency_Key="again")
    conflict = await gateway.post(
        "/v1/authorizations", body | {"amount": 401}, Idempotency_Key="again"
    )
    assert conflict.status == 409
    assert (await gateway.authorize(amount=-1)).status == 400
    assert (await gateway.post("/v1/authorizations", body, Authorization="")).status == 401

    samples = await scraped(gateway)
    counted = {
        (labels["outcome"], labels["reason"]): value
        for (name, pairs), value in samples.items()
        if name == "jitway_decisions_total" and (labels := dict(pairs)) and value
    }
    rows = await gateway.services.postgres.execute_query(
        "SELECT outcome, coalesce(reason, '') AS reason, count(*) FROM decision GROUP BY 1, 2"
    )
    assert counted == {(row["outcome"], row["reason"]): row["count"] for row in rows}
    assert sum(counted.values()) == 8
    requests = Counter(
        {
            dict(pairs)["result"]: int(value)
            for (name, pairs), value in samples.items()
            if name == "jitway_authorization_requests_total"
        }
    )
    assert +requests == {"approved": 4, "declined": 4, "replayed": 2, "conflict": 1}
    assert of(samples, "jitway_authorization_seconds_count") == requests.total()


async def test_histograms_are_cumulative_and_of_all_stages(gateway: Gateway) -> None:
    for _ in range(5):
        await gateway.authorize(amount=1)
    samples = await scraped(gateway)
    for stage in ("decode", "card_lookup", "user_lookup", "limits_check", "decision", "commit"):
        edges = [*(f"{ms / 1000:g}" for ms in metrics.EDGES_MS), "+Inf"]
        counts = [of(samples, "jitway_stage_seconds_bucket", stage=stage, le=e) for e in edges]
        assert counts == sorted(counts)
        assert counts[-1] == of(samples, "jitway_stage_seconds_count", stage=stage) == 5
    stages = sum(
        value for (name, _), value in samples.items() if name == "jitway_stage_seconds_sum"
    )
    assert stages == pytest.approx(of(samples, "jitway_authorization_seconds_sum"), rel=0.05)


async def test_what_surrounds_decisions_is_there(gateway: Gateway) -> None:
    await gateway.authorize(amount=1)
    samples = await scraped(gateway)
    assert of(samples, "jitway_ready") == 1
    assert of(samples, "jitway_service_status", service="postgres", status="healthy") == 1
    assert of(samples, "jitway_service_status", service="redis", status="disabled") == 1
    assert of(samples, "jitway_group_commit_batch_size_average") == 1
    assert of(samples, "jitway_group_commit_depth") == 0
    assert of(samples, "jitway_postgres_connections", state="dedicated") >= 2


# Configured, and away: they are counted all the same.
AWAY = {
    "REDIS_URL": "redis://127.0.0.1:1/",
    "MONGODB_URI": "mongodb://127.0.0.1:1/",
    "RABBITMQ_URL": "amqp://127.0.0.1:1/",
    "JITWAY_WORK": "none",
}


async def test_it_is_known_how_each_gauge_of_several_workers_becomes_one(
    database: str, tmp_path: Path
) -> None:
    async with serving(database, tmp_path, furnished=True, **AWAY) as gateway:
        await gateway.authorize(amount=1)
        response = await gateway.get("/metrics", Authorization="")
    gauges = {
        family.name
        for family in text_string_to_metric_families(response.body.decode())
        if family.type == "gauge"
    }
    assert len(gauges) > 10
    assert gauges <= set(GAUGES), gauges - set(GAUGES)


async def test_waits_for_a_connection_are_counted(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.get(f"/v1/cards/{gateway.card['id']}")
    samples = await scraped(gateway)
    count = of(samples, "jitway_postgres_acquire_wait_seconds_count")
    assert count >= 3
    assert of(samples, "jitway_postgres_acquire_wait_seconds_bucket", le="+Inf") == count
    assert of(samples, "jitway_postgres_acquire_wait_seconds_sum") > 0


async def test_what_waits_to_be_published_is_counted(database: str, tmp_path: Path) -> None:
    async with serving(database, tmp_path, JITWAY_WORK="none") as gateway:
        await gateway.authorize(amount=1)
        waiting = await gateway.services.postgres.execute_query(
            "SELECT count(*) FROM outbox WHERE published_at IS NULL"
        )
        samples = await scraped(gateway)
    assert of(samples, "jitway_outbox_depth") == waiting[0]["count"] > 0


async def test_labels_come_from_no_request(gateway: Gateway) -> None:
    await gateway.authorize(amount=1)
    await gateway.authorize(amount=1, card="crd_" + "f" * 32)
    before = await scraped(gateway)
    for number in range(20):
        merchant = {"id": f"m-{number}", "name": f"Shop {number}"}
        await gateway.authorize(amount=1, merchant=merchant, card=f"crd_{number:032x}")
    after = await scraped(gateway)
    assert set(after) == set(before)


async def test_many_scrapers_cost_one_scrape(gateway: Gateway) -> None:
    application = gateway.application
    kept = Metrics(gateway.services, application._watch, kept_s=3600)
    try:
        texts = await asyncio.gather(*(kept.text() for _ in range(20)))
        assert all(text is texts[0] for text in texts)
        await gateway.authorize(amount=1)
        assert await kept.text() is texts[0]
    finally:
        await kept.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_only_get_and_head(gateway: Gateway, method: str) -> None:
    assert (await gateway.call(method, "/metrics")).status == 405


async def test_a_ledger_that_hangs_costs_only_its_own_figures(gateway: Gateway) -> None:
    before = await scraped(gateway)
    assert ("jitway_outbox_depth", NO_LABELS) in before
    locker = await gateway.services.postgres.dedicated(
        lock_timeout_ms=1000, statement_timeout_ms=1000, idle_in_transaction_timeout_ms=30_000
    )
    await locker.begin()
    await locker.fetch("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
    samples = await scraped(gateway)
    await locker.rollback()
    locker.terminate()
    assert ("jitway_outbox_depth", NO_LABELS) not in samples
    assert of(samples, "jitway_ready") == 1
    assert ("jitway_outbox_depth", NO_LABELS) in await scraped(gateway)


def named_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:jitway|process)_[a-z_]+", expression))


def expressions() -> list[str]:
    dashboard: dict[str, Any] = json.loads((OPS / "dashboards" / "jitway.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return [*found, (OPS / "alerts.yaml").read_text()]


async def test_dashboard_and_alerts_name_only_metrics_that_exist(
    database: str, tmp_path: Path
) -> None:
    async with serving(database, tmp_path, furnished=True, **AWAY) as gateway:
        await gateway.authorize(amount=1)
        # No lookup is counted before the cache has levels; the family is served all the same.
        response = await gateway.get("/metrics", Authorization="")
        known = {name for name, _ in await scraped(gateway)}
    known |= set(re.findall(r"# TYPE (\w+) ", response.body.decode()))
    named = set().union(*map(named_in, expressions()))
    assert len(named) > 20
    assert named <= known, named - known
