"""A client of a gateway: `send` calls, as values, from threads or from asyncio.

    with Client("http://127.0.0.1:3000", key=key) as gateway:
        decision = gateway.send(authorize(card, 1250, "USD"))

Owns how a call is repeated. Knows nothing of how a gateway works inside.
"""

from jitway.client.calls import (
    Call,
    account,
    authorization,
    authorizations,
    authorize,
    capture,
    card,
    cardholder,
    close,
    create_account,
    create_card,
    create_cardholder,
    create_program,
    deposit,
    freeze,
    program,
    reverse,
    set_controls,
    unfreeze,
    withdraw,
)
from jitway.client.connection import AsyncClient, Client
from jitway.client.documents import (
    Account,
    Authorization,
    Card,
    Cardholder,
    Controls,
    Owner,
    Page,
    Program,
    Transfer,
)
from jitway.client.failures import NoAnswer, RequestRefused
from jitway.client.patience import Patience

__all__ = [
    "Account",
    "AsyncClient",
    "Authorization",
    "Call",
    "Card",
    "Cardholder",
    "Client",
    "Controls",
    "NoAnswer",
    "Owner",
    "Page",
    "Patience",
    "Program",
    "RequestRefused",
    "Transfer",
    "account",
    "authorization",
    "authorizations",
    "authorize",
    "capture",
    "card",
    "cardholder",
    "close",
    "create_account",
    "create_card",
    "create_cardholder",
    "create_program",
    "deposit",
    "freeze",
    "program",
    "reverse",
    "set_controls",
    "unfreeze",
    "withdraw",
]
