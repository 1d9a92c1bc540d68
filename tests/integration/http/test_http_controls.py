"""Controls, kinds and validity as callers send and see them."""

from datetime import UTC, datetime, timedelta

from jitway.domain.instant import instant_text
from tests.integration.http.gateway import Gateway


async def test_controls_are_set_read_and_decide(gateway: Gateway) -> None:
    path = f"/v1/cards/{gateway.card['id']}/controls"
    chosen = {
        "limits": [{"period": "day", "amount": 5_000}],
        "allow": {"country": ["US"], "entry_mode": ["chip", "contactless"]},
        "block": {"mcc": ["7995"]},
    }
    put = await gateway.call("PUT", path, chosen)
    assert put.status == 200
    assert put.json["controls"]["allow"]["country"] == ["US"]

    at_home = {"country": "US", "mcc": "5942"}
    for merchant, mode, reason in (
        (None, "chip", "country_not_allowed"),
        (at_home | {"country": "CA"}, "chip", "country_not_allowed"),
        (at_home | {"mcc": "7995"}, "chip", "mcc_blocked"),
        (at_home, "ecommerce", "entry_mode_not_allowed"),
        (at_home, None, "entry_mode_not_allowed"),
    ):
        told = (await gateway.authorize(amount=1, merchant=merchant, entry_mode=mode)).json
        assert told["reason"] == reason
    part = await gateway.authorize(
        amount=6_000, merchant=at_home, entry_mode="chip", partial_approval=True
    )
    assert (part.json["decision"], part.json["approved_amount"]) == ("approved", 5_000)
    why = (await gateway.get(f"/v1/authorizations/{part.json['id']}")).json
    assert "daily limit of the card" in why["summary"]

    now = (await gateway.get(path)).json
    assert now["own"] == put.json["controls"]
    (limit,) = now["effective"]["limits"]
    assert (limit["level"], limit["used"], limit["remaining"]) == ("card", 5_000, 0)
    # What is shown can be sent back.
    assert (await gateway.call("PUT", path, now["own"])).status == 200

    wrong = await gateway.call("PUT", path, {"block": {"country": ["US", "UK"]}})
    assert (wrong.status, wrong.json["pointer"]) == (400, "/block/country/1")


async def test_what_reserves_nothing(gateway: Gateway) -> None:
    before = (await gateway.get(f"/v1/accounts/{gateway.account['id']}")).json
    for kind in ("account_verification", "balance_inquiry"):
        told = (await gateway.authorize(amount=0, kind=kind)).json
        assert (told["decision"], told["approved_amount"]) == ("approved", 0)
        assert (told["available"], told["expires_at"]) == (before["available"], None)
        assert (await gateway.get(f"/v1/authorizations/{told['id']}")).json["status"] == "released"
        movement = await gateway.post(f"/v1/authorizations/{told['id']}/captures", {"amount": 1})
        assert (movement.status, movement.code) == (409, "authorization_not_open")
    assert (await gateway.get(f"/v1/accounts/{gateway.account['id']}")).json == before
    for changes in ({"amount": 0}, {"amount": 1, "kind": "account_verification"}, {"amount": -1}):
        refused = await gateway.authorize(**changes)
        assert (refused.status, refused.json["pointer"]) == (400, "/amount")


async def test_a_card_with_a_validity(gateway: Gateway) -> None:
    path = f"/v1/cards/{gateway.card['id']}"
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    ended = await gateway.call("PATCH", path, {"valid_until": instant_text(hour_ago)})
    assert (ended.status, ended.json["valid_until"]) == (200, instant_text(hour_ago))
    assert ended.json["status"] == "active"
    assert (await gateway.authorize(amount=1)).json["reason"] == "card_expired"
    to_come = await gateway.call("PATCH", path, {"valid_from": "2999-01-01", "valid_until": None})
    assert to_come.json["valid_from"].startswith("2999-01-01T")
    assert (await gateway.authorize(amount=1)).json["reason"] == "card_not_yet_valid"
    anew = await gateway.call("PATCH", path, {"valid_from": None})
    assert anew.json["valid_from"] is None
    assert (await gateway.authorize(amount=1)).json["decision"] == "approved"
    for wrong in ({"valid_from": "tomorrow"}, {"valid_until": "2026-02-30"}):
        refused = await gateway.call("PATCH", path, wrong)
        assert (refused.status, refused.json["pointer"]) == (400, f"/{next(iter(wrong))}")
