"""Files over HTTP: their forms, their report, and the one key that money needs."""

import json

from tests.integration.http.gateway import Gateway, Response

CSV = "text/csv; charset=utf-8"
NDJSON = "application/x-ndjson"


async def send(gateway: Gateway, path: str, raw: str, form: str, **headers: str) -> Response:
    named = {"Content-Type": form} | {name.replace("_", "-"): v for name, v in headers.items()}
    return await gateway.call("POST", path, raw.encode(), named)


async def test_cards_and_their_money_from_two_files(gateway: Gateway) -> None:
    program = gateway.program["id"]
    cards = "external_id,cardholder_external_id\n" + "".join(f"c-{n},h-{n}\n" for n in range(5))
    made = await send(gateway, f"/v1/bulk/cards?program={program}&reason=spring", cards, CSV)
    assert (made.status, made.json["made"], made.json["applied"]) == (200, 5, True)
    assert [line["line"] for line in made.json["data"]] == [2, 3, 4, 5, 6]
    card = made.json["data"][0]["id"]
    money = "\n".join(
        json.dumps({"key": f"k-{n}", "card_external_id": f"c-{n}", "amount": 100}) for n in range(5)
    )
    path = f"/v1/bulk/funding?program={program}"
    tried = await send(gateway, f"{path}&dry_run=true", money, NDJSON, Idempotency_Key="")
    assert (tried.json["made"], tried.json["applied"]) == (5, False)
    keyless = await send(gateway, path, money, NDJSON, Idempotency_Key="")
    assert (keyless.status, keyless.code) == (400, "idempotency_key_required")
    funded = await send(gateway, path, money, NDJSON, Idempotency_Key="may")
    assert (funded.status, funded.json["made"]) == (200, 5)
    again = await send(gateway, path, money, NDJSON, Idempotency_Key="may")
    assert (again.body, again.headers["idempotent-replayed"]) == (funded.body, "true")
    other = await send(gateway, f"{path}&strict=true", money, NDJSON, Idempotency_Key="may")
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert (await gateway.authorize(card=card, amount=100)).json["decision"] == "approved"


async def test_what_is_no_file_is_refused(gateway: Gateway) -> None:
    path = f"/v1/bulk/cards?program={gateway.program['id']}"
    number, refused_number = "4111%201111%201111%201111", "card_number_refused"
    for asked, raw, form, status, code in (
        (path, "{}", "application/json", 415, "unsupported_media_type"),
        (path, "", CSV, 400, "invalid_request"),
        (path, "posted\n1\n", CSV, 400, "unknown_field"),
        ("/v1/bulk/cards", "external_id,cardholder\nx,y\n", CSV, 400, "invalid_request"),
        (f"{path}&strict=yes", "external_id,cardholder\nx,y\n", CSV, 400, "invalid_request"),
        (f"{path}&posted=1", "external_id,cardholder\nx,y\n", CSV, 400, "unknown_field"),
        (f"{path}&reason={number}", "external_id,cardholder\nx,y\n", CSV, 400, refused_number),
    ):
        refused = await send(gateway, asked, raw, form)
        assert (refused.status, refused.code) == (status, code), asked
    bad = await send(gateway, path, "external_id,cardholder\nx,y\n", CSV)
    assert bad.json["data"] == [
        {
            "line": 2,
            "outcome": "failed",
            "id": None,
            "error": {
                "code": "not_found",
                "detail": "there is no cardholder with this id",
                "field": "cardholder",
                "existing": None,
            },
        }
    ]
