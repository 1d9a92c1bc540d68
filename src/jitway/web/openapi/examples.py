"""`examples.py`: one body for each route that takes one; a test sends them all, with real ids."""

from typing import Any

ID = "01a204bf30107d9eaf1bbfb25003d125"

_LIMITS = [{"period": "transaction", "amount": 50_000}, {"period": "day", "count": 10}]
_CONTROLS = {
    "limits": _LIMITS,
    "allow": {"country": ["US", "CA"]},
    "block": {"mcc": ["7995"], "merchant": ["m-666"]},
    "reason": "travels in North America",
}
_WHY = {"reason": "asked by the cardholder"}

EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("/v1/authorizations", "POST"): {
        "card": f"crd_{ID}",
        "amount": 1250,
        "currency": "USD",
        "merchant": {"id": "m-17", "name": "Corner Books", "mcc": "5942", "country": "US"},
        "deadline_ms": 400,
    },
    ("/v1/authorizations/{id}/captures", "POST"): {"amount": 500, "final": False},
    ("/v1/authorizations/{id}/reversals", "POST"): {"amount": 250},
    ("/v1/programs", "POST"): {"name": "Books", "currency": "USD", "time_zone": "Europe/Warsaw"},
    ("/v1/programs/{id}", "PATCH"): {"name": "Books and more", **_WHY},
    ("/v1/cardholders", "POST"): {
        "program": f"prg_{ID}",
        "external_id": "ada",
        "name": "Ada Archer",
    },
    ("/v1/cardholders/{id}", "PATCH"): {"name": "Ada Brook", **_WHY},
    ("/v1/accounts", "POST"): {"cardholder": f"chd_{ID}", "currency": "USD", "credit_line": 9_000},
    ("/v1/accounts/{id}", "PATCH"): {"credit_line": 20_000, **_WHY},
    ("/v1/accounts/{id}/deposits", "POST"): {"amount": 100_000, "description": "salary"},
    ("/v1/accounts/{id}/withdrawals", "POST"): {"amount": 1_000, "description": "paid back"},
    ("/v1/cards", "POST"): {"cardholder": f"chd_{ID}", "account": f"acc_{ID}", "last4": "4242"},
    ("/v1/cards/{id}", "PATCH"): {"valid_until": "2027-12-31", **_WHY},
    ("/v1/cards/{id}/freeze", "POST"): _WHY,
    ("/v1/cards/{id}/unfreeze", "POST"): _WHY,
    ("/v1/cards/{id}/controls", "PUT"): _CONTROLS,
    ("/v1/cardholders/{id}/controls", "PUT"): _CONTROLS,
    ("/v1/programs/{id}/controls", "PUT"): _CONTROLS,
    ("/v1/keys", "POST"): {"scopes": ["authorize"], "program": f"prg_{ID}", "name": "processor"},
    ("/v1/keys/{id}/rotate", "POST"): {"reason": "yearly"},
    ("/v1/webhooks/{source}", "POST"): {"type": "card.updated", "card": "token-17"},
}
