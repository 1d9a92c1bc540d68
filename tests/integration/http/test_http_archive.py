"""`GET /v1/archive/...`: what was decided arrives, is found, and stays one program's own."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.integration.http.gateway import Gateway, serving
from tests.servers.process import free_port


async def found(gateway: Gateway, collection: str, **filters: Any) -> list[dict[str, Any]]:
    """The first page."""
    response = await gateway.get(f"/v1/archive/{collection}?{urlencode(filters)}")
    assert response.status == 200, response.body
    return list(response.json["data"])


async def arrived(
    gateway: Gateway, collection: str, number: int, **filters: Any
) -> list[dict[str, Any]]:
    """The same once the consumers have caught up."""
    async with asyncio.timeout(20):
        while len(page := await found(gateway, collection, **filters)) < number:
            await asyncio.sleep(0.02)
    return page


def facts(shown: dict[str, Any]) -> dict[str, Any]:
    """An authorization without the words about it, and without what other collections hold."""
    told = {"summary", "balance", "transfers"}
    explanation = [
        {name: value for name, value in finding.items() if name != "text"}
        for finding in shown["explanation"]
    ]
    kept = {name: value for name, value in shown.items() if name not in told}
    return kept | {"explanation": explanation}


async def test_what_is_decided_and_captured_can_be_found(gateway: Gateway) -> None:
    decided = [(await gateway.authorize()).json for _ in range(3)]
    captures = f"/v1/authorizations/{decided[0]['id']}/captures"
    transfer = (await gateway.post(captures, {"amount": decided[0]["approved_amount"]})).json
    lines = await arrived(gateway, "transactions", 1, card=gateway.card["id"])
    assert {name: lines[0][name] for name in transfer} == transfer

    page = await arrived(gateway, "authorizations", 3, card=gateway.card["id"])
    assert [one["id"] for one in page] == [one["id"] for one in reversed(decided)]
    for one in page:
        shown = facts((await gateway.get(f"/v1/authorizations/{one['id']}")).json)
        assert {name: one[name] for name in shown} == shown
    assert page[-1]["status"] == "captured"

    first = await gateway.get("/v1/archive/authorizations?limit=2")
    cursor = first.json["next_cursor"]
    rest = await gateway.get(f"/v1/archive/authorizations?limit=2&cursor={cursor}")
    assert first.json["data"] + rest.json["data"] == page
    assert rest.json["next_cursor"] is None
    since = quote(decided[1]["decided_at"])
    later = await gateway.get(f"/v1/archive/authorizations?from={since}&decision=approved")
    assert len(later.json["data"]) == 2


async def test_a_program_sees_its_own(gateway: Gateway) -> None:
    await gateway.authorize()
    await arrived(gateway, "authorizations", 1)
    program = {"name": "P", "currency": "USD", "time_zone": "UTC"}
    other = (await gateway.post("/v1/programs", program)).json["id"]
    ours, theirs = gateway.program["id"], other
    for program_id, query, number in (
        (ours, "", 1),
        (ours, f"?program={ours}", 1),
        (theirs, "", 0),
        (theirs, f"?program={ours}", 0),
        (theirs, f"?card={gateway.card['id']}", 0),
    ):
        key = await gateway.new_key("read", program=program_id)
        headers = {"Authorization": f"Bearer {key}"}
        path = f"/v1/archive/authorizations{query}"
        response = await gateway.call("GET", path, None, headers)
        assert (response.status, len(response.json["data"])) == (200, number), query


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("authorizations?card=1", "/card"),
        ("authorizations?amount_min=1.0", "/amount_min"),
        ("authorizations?amount_max=9999999999999999999", "/amount_max"),
        ("authorizations?from=yesterday", "/from"),
        ("authorizations?limit=0", "/limit"),
        ("authorizations?limit=1e2", "/limit"),
        ("authorizations?cursor=trf_1", "/cursor"),
        ("authorizations?decision=perhaps", "/decision"),
        ("transactions?reason=card_frozen", None),
        ("webhooks?card=crd_1", None),
    ],
)
async def test_a_question_that_cannot_be_meant_is_400(
    shared: Gateway, path: str, pointer: str | None
) -> None:
    response = await shared.get(f"/v1/archive/{path}")
    assert (response.status, response.json.get("pointer")) == (400, pointer)


async def test_an_archive_that_is_away_is_named_and_nothing_else_misses_it(
    database: str, tmp_path: Path
) -> None:
    nobody = f"mongodb://127.0.0.1:{free_port()}/"
    async with serving(database, tmp_path, MONGODB_URI=nobody, JITWAY_WORK="none") as gateway:
        assert (await gateway.authorize()).json["decision"] == "approved"
        response = await gateway.get("/v1/archive/authorizations")
        assert (response.status, response.code) == (503, "archive_unavailable")
        assert response.headers["retry-after"]
        assert nobody.rstrip("/").rpartition("/")[2] not in response.body.decode()
        assert (await gateway.get("/ready")).status == 200
