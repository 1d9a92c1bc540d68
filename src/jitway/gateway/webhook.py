"""`webhook.py`: what a processor tells us is kept, redacted, and announced, in one transaction.

Owns what counts as a repetition: the same message id of the same source. Does not act on it: the
consumers of `webhook.received` do.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.domain.instant import instant_text
from jitway.errors import Conflict
from jitway.gateway.caller import DIGEST_BYTES, Answer, Caller
from jitway.gateway.documents import Document, text_of
from jitway.ledger.idempotency import in_transaction
from jitway.ledger.journal import outbox_slot
from jitway.sql import statements

_SQL = statements("events")
_INSTANT = statements("postings")["instant"]


@dataclass(frozen=True, slots=True)
class Received:
    """One webhook as it came in.

    Args:
        source: which processor's, as the URL names it.
        message_id: the sender's; the same in every repetition.
        raw: the bytes as they were received; only their digest is kept.
        payload: the same as JSON text, redacted.
    """

    source: str
    message_id: str
    raw: bytes
    payload: str

    @property
    def content(self) -> bytes:
        """The digest that tells other content from a repetition."""
        return blake2b(self.raw, digest_size=DIGEST_BYTES).digest()


async def receive(
    postgres: PostgreSQLAdapter, clock: Clock, caller: Caller, received: Received
) -> Answer:
    """Keeps a webhook and announces it, once for each message id of its source.

    Args:
        postgres: the ledger.
        clock: for the id.
        caller: whoever signed it; its program is the webhook's.
        received: what came in.

    Returns:
        200 and the webhook; for a repetition the same bytes again.

    Raises:
        Conflict: the message id was used with other content.
        StoreUnavailable: PostgreSQL is away; nothing was kept.
    """

    async def act(client: TransactionClient) -> Answer:
        known = await _known(client, caller, received)
        if known is not None:
            return known
        id_ = clock.new_id("evt")
        at = (await client.query(_INSTANT))[0]["now"]
        body = text_of(_document(id_, caller.program_id, received, at))
        values = [
            id_[4:],
            caller.program_id and caller.program_id[4:],
            caller.scope,
            received.source,
            received.message_id,
            received.content,
            received.payload,
            at,
            outbox_slot(at),
            body,
        ]
        if await client.query(_SQL["receive_webhook"], values):
            return Answer(200, body)
        # Another delivery of the same message was faster; it has committed, or we would still wait.
        known = await _known(client, caller, received)
        assert known is not None
        return known

    return await in_transaction(postgres, act)


async def _known(client: TransactionClient, caller: Caller, received: Received) -> Answer | None:
    values = [caller.scope, received.source, received.message_id]
    rows = await client.query(_SQL["received_webhook"], values)
    if not rows:
        return None
    row = rows[0]
    if row["content"] != received.content:
        raise Conflict("this webhook id was used with other content", "webhook_conflict")
    first = Received(row["source"], row["message_id"], b"", row["payload"])
    program_id = row["program_id"] and f"prg_{row['program_id'].hex}"
    document = _document(f"evt_{row['id'].hex}", program_id, first, row["received_at"])
    return Answer(200, text_of(document), replayed=True)


def _document(id_: str, program_id: str | None, received: Received, at: datetime) -> Document:
    return {
        "id": id_,
        "program": program_id,
        "source": received.source,
        "message_id": received.message_id,
        # Text: names and depths of others concern nobody's index.
        "payload": received.payload,
        "received_at": instant_text(at),
    }
