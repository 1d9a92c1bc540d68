"""`load.py`: many callers at once, each by the rules, until they are told to stop.

Draws everything from one seed but for the interleaving, which is the world's.
"""

import asyncio
import random
from collections import deque

from chaos.accounts import open_accounts
from chaos.caller import Caller
from chaos.history import Attempt, Call, History, Outcome, Verb
from chaos.traffic import Traffic, authorization, card_change, movement

CALLERS = 24
OPENING_DEPOSIT = 60_000
ANSWERED_MAX = 50
THINK_S = (0.0, 0.03)
FREEZE_S = (0.05, 0.4)
REPEATED_AT_ONCE = 0.06
WALKING_AWAY = 0.02
SETTLE_S = 60.0


class Load:
    """The callers of one round.

    Args:
        port: of the gateway on this machine.
        key: an API key that may authorize, operate and read.
        seed: of what is asked.
    """

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.history = History()
        self.answered_asked_ns = 0
        """When the latest attempt began that got an answer, among calls that change something."""
        self.in_flight = 0
        """Calls that have no answer yet."""
        self._port = port
        self._key = key
        self._dice = random.Random(seed)
        self._stopping = False
        self._patient = True
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Makes the accounts and puts money on them.

        Raises:
            SetupFailed: one was refused.
        """
        openings = await open_accounts(self._port, self._key)
        self.history.openings = {opening.id: opening for opening in openings}
        caller = self._caller()
        for opening in openings:
            await self._ask(caller, movement(opening, Verb.DEPOSIT, OPENING_DEPOSIT))
        caller.close()

    def start(self) -> None:
        """Lets the callers loose."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._call_on()) for _ in range(CALLERS)]
        self._tasks.append(loop.create_task(self._freeze_and_unfreeze()))

    async def stop(self) -> None:
        """Begins nothing new; whoever waits for an answer still asks for it, for a minute."""
        self._stopping = True
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=SETTLE_S)
        self._patient = False
        if late:
            await asyncio.wait(late, timeout=SETTLE_S)
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._patient = True
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def repeat(self, count_max: int) -> int:
        """Asks again for what was answered, above all what was in doubt once; returns how much."""
        asked = [call for call in self.history.calls if call.key and call.answer]
        self._dice.shuffle(asked)
        asked.sort(key=lambda call: len(call.attempts) == 1)
        waiting = deque(asked[:count_max])
        await asyncio.gather(*(self._repeat_some(waiting) for _ in range(CALLERS)))
        return min(len(asked), count_max)

    async def approve_one_each(self) -> None:
        """One more approval on every account, small enough, and answered."""
        caller = self._caller()
        for opening in self.history.openings.values():
            await self._ask(caller, movement(opening, Verb.DEPOSIT, 100_000))
            unlimited = next(card for card, limit in opening.cards.items() if limit is None)
            await self._ask(caller, card_change(opening, unlimited, Verb.UNFREEZE))
            await self._ask(caller, authorization(opening, unlimited, 100))
        caller.close()

    def _caller(self) -> Caller:
        dice = random.Random(self._dice.random())
        return Caller(self._port, self._key, dice, lambda: self._patient)

    async def _ask(self, caller: Caller, call: Call) -> Attempt:
        self.history.calls.append(call)
        self.in_flight += 1
        try:
            attempt = await caller.ask_until_answered(call)
        finally:
            self.in_flight -= 1
        if attempt.outcome is Outcome.OK and call.key:
            self.answered_asked_ns = max(self.answered_asked_ns, attempt.invoked_ns)
        return attempt

    async def _repeat_some(self, waiting: deque[Call]) -> None:
        caller = self._caller()
        while waiting:
            await caller.ask_until_answered(waiting.popleft())
        caller.close()

    async def _call_on(self) -> None:
        caller = self._caller()
        dice = random.Random(self._dice.random())
        traffic = Traffic(list(self.history.openings.values()), dice)
        answered: deque[Call] = deque(maxlen=ANSWERED_MAX)
        while not self._stopping:
            await asyncio.sleep(dice.uniform(*THINK_S))
            if answered and dice.random() < REPEATED_AT_ONCE:
                await caller.ask_until_answered(dice.choice(answered))
                continue
            call = traffic.next()
            if dice.random() < WALKING_AWAY:
                self.history.calls.append(call)
                await caller.walk_away(call)
                continue
            attempt = await self._ask(caller, call)
            if attempt.outcome is Outcome.OK and call.key:
                answered.append(call)
                if call.verb is Verb.AUTHORIZE and call.document["decision"] == "approved":
                    traffic.remember(call)
        caller.close()

    async def _freeze_and_unfreeze(self) -> None:
        caller = self._caller()
        dice = random.Random(self._dice.random())
        openings = list(self.history.openings.values())
        while not self._stopping:
            opening = dice.choice(openings)
            card = dice.choice(list(opening.cards))
            for verb in (Verb.FREEZE, Verb.UNFREEZE):
                await self._ask(caller, card_change(opening, card, verb))
                await asyncio.sleep(dice.uniform(*FREEZE_S))
        caller.close()
