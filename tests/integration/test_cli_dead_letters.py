"""`jitway dead-letters`: an operator looks, sends back, forgets; twice does nothing twice."""

import asyncio
import json
import os
from pathlib import Path

from click.testing import CliRunner, Result

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cli.main import main
from jitway.errors import MalformedMessage
from jitway.events.broker import QUEUES, WEBHOOK_QUEUE, Delivery, Message
from jitway.events.local_broker import LocalBroker
from tests.integration.events_scenes import eventually

CARD = "4242424242424242"


async def bury(adapter: PostgreSQLAdapter, *ids: str) -> None:
    """Webhooks that no consumer can apply."""

    async def refuse(_: Delivery) -> None:
        raise MalformedMessage("there is no card_id")

    broker = LocalBroker(adapter, QUEUES)
    await broker.connect()
    try:
        await broker.consume(WEBHOOK_QUEUE, refuse)
        body = json.dumps({"note": f"the card {CARD}"}).encode()
        messages = [Message("webhook.received", id_, body) for id_ in ids]
        assert not any(await broker.publish_many(messages))

        async def buried() -> bool:
            return len(await broker.dead(WEBHOOK_QUEUE)) == len(ids)

        await eventually(buried, within_s=30)
    finally:
        await broker.close()


async def test_an_operator_looks_replays_and_discards(
    adapter: PostgreSQLAdapter, database: str, tmp_path: Path
) -> None:
    await bury(adapter, "m-1", "m-2")
    environment = {
        "HOME": str(tmp_path),
        "JITWAY_ENV_FILE": os.devnull,
        "DATABASE_URL": database,
        # Those of the tests' own servers are no business of this command.
        **dict.fromkeys(("RABBITMQ_URL", "MONGODB_URI", "REDIS_URL")),
    }

    async def say(*arguments: str) -> Result:
        command = ["dead-letters", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command, env=environment)

    async def listed() -> list[str]:
        said = await say("list", "--json")
        assert said.exit_code == 0, said.output
        return [letter["id"] for letter in json.loads(said.stdout)["data"]]

    told = await say("list")
    assert (told.exit_code, told.output.count("there is no card_id")) == (0, 2)
    assert "1 attempts" in told.output
    shown = json.loads((await say("show", "m-1")).stdout)
    assert (shown["queue"], shown["attempts"]) == (WEBHOOK_QUEUE, 1)
    assert shown["cause"].endswith("there is no card_id")
    assert shown["first_failed_at"] <= shown["last_failed_at"]
    assert CARD not in json.dumps(shown)

    assert (await say("replay", "m-1", "--reason", "mended")).exit_code == 0
    assert await listed() == ["m-2"]
    again = await say("replay", "m-1")
    assert (again.exit_code, "there is no dead letter 'm-1'" in again.output) == (1, True)
    assert (await say("discard", "m-2", "--queue", WEBHOOK_QUEUE)).exit_code == 0
    assert await listed() == []
    assert (await say("show", "m-2")).exit_code == 1
    assert (await say("list", "--queue", "nobody's")).exit_code == 1
    rows = await adapter.execute_query(
        "SELECT count(*) AS n FROM delivery WHERE id = 'm-1' AND queue = $1",
        [WEBHOOK_QUEUE],
    )
    assert rows[0]["n"] == 1, "sent back once"
    audit = await adapter.execute_query(
        "SELECT actor, action, subject, reason FROM audit ORDER BY id"
    )
    assert [tuple(row.values()) for row in audit if row["action"].startswith("dead_")] == [
        ("cli", "dead_letter.replayed", "m-1", "mended"),
        ("cli", "dead_letter.discarded", "m-2", None),
    ]
