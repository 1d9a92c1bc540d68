"""`caller.py`: a caller that keeps to the rules: same key, same content, until there is an answer.

Records every attempt. A refusal is an end too; a walk-away is recorded as what it is: unknown.
"""

import asyncio
import json
import random
from collections.abc import Callable

from chaos.connection import Connection, NoAnswer, NotSent, Reply, request_bytes
from chaos.history import Attempt, Call, Outcome, Verb, now_ns

TIMEOUT_S = 5.0
PAUSE_S = (0.02, 0.25)
# Asked again it can still succeed.
_PASSING = (429, 503)


class Caller:
    """One connection's worth of calls, one after the other.

    Args:
        port: of the gateway on this machine.
        key: the API key.
        dice: of its pauses.
        may_go_on: false once nobody waits for answers any more.
    """

    def __init__(
        self, port: int, key: str, dice: random.Random, may_go_on: Callable[[], bool]
    ) -> None:
        self._connection = Connection(port)
        self._key = key
        self._dice = dice
        self._may_go_on = may_go_on

    async def ask_until_answered(self, call: Call) -> Attempt:
        """Asks, and asks again, until there is an answer or a refusal; returns the last attempt."""
        while True:
            attempt = await self.ask_once(call)
            if attempt.outcome is Outcome.OK or (
                attempt.outcome is Outcome.FAIL and attempt.status
            ):
                return attempt
            if not self._may_go_on():
                return attempt
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))

    async def ask_once(self, call: Call) -> Attempt:
        """One attempt, recorded."""
        invoked_ns = now_ns()
        try:
            reply = await self._connection.ask(self._request(call), timeout_s=TIMEOUT_S)
        except NotSent as error:
            attempt = Attempt(invoked_ns, now_ns(), Outcome.FAIL, cause=str(error))
        except NoAnswer as error:
            attempt = Attempt(invoked_ns, now_ns(), Outcome.UNKNOWN, cause=str(error))
        else:
            attempt = Attempt(invoked_ns, now_ns(), _outcome(reply), reply.status, reply.body)
        call.attempts.append(attempt)
        return attempt

    async def walk_away(self, call: Call) -> None:
        """Asks and hangs up, and never asks again."""
        invoked_ns = now_ns()
        call.walked_away = True
        try:
            await self._connection.abandon(self._request(call))
        except NotSent as error:
            attempt = Attempt(invoked_ns, now_ns(), Outcome.FAIL, cause=str(error))
        else:
            attempt = Attempt(invoked_ns, now_ns(), Outcome.UNKNOWN, cause="walked away")
        call.attempts.append(attempt)

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()

    def _request(self, call: Call) -> bytes:
        if call.verb is Verb.READ:
            return request_bytes("GET", call.path, key=self._key)
        body = dict(call.body)
        if call.attempts:
            # Hurry is no part of the content: who asks again leaves more time.
            body.pop("deadline_ms", None)
        return request_bytes(
            "POST",
            call.path,
            key=self._key,
            body=json.dumps(body).encode(),
            headers={"Idempotency-Key": call.key},
        )


def _outcome(reply: Reply) -> Outcome:
    if reply.status in (200, 201):
        return Outcome.OK
    return Outcome.UNKNOWN if reply.status in _PASSING or reply.status >= 500 else Outcome.FAIL
