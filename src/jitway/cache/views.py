"""`views.py`: cards with everything above them, for decisions to start from. Never balances.

A view is a hint: the batch compares its versions with the rows under the lock, so a stale one
costs a reload and never an approval.
"""

from collections.abc import Awaitable, Callable, Iterable

from jitway.cache.l1 import L1Cache
from jitway.domain.card import CardView


class CardViews:
    """Card views by card id.

    Args:
        load: reads views of card ids from the ledger; ids it does not know are absent.
        entries_max: how many cards are remembered.
        ttl_s: seconds a view lives.
        monotonic_ns: nanoseconds of a clock that never goes back.
    """

    def __init__(
        self,
        load: Callable[[Iterable[str]], Awaitable[dict[str, CardView]]],
        *,
        entries_max: int = 100_000,
        ttl_s: float = 900.0,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._load = load
        self._l1: L1Cache[CardView] = L1Cache(
            entries_max, ttl_s=ttl_s, negative_ttl_s=1.0, monotonic_ns=monotonic_ns
        )

    def peek(self, card_id: str) -> tuple[bool, CardView | None]:
        """Whether the card is remembered, and its view; None is a remembered absence."""
        return self._l1.peek(card_id)

    async def card(self, card_id: str) -> CardView | None:
        """The card's view, read from the ledger; None when there is no such card.

        Raises:
            StoreUnavailable: PostgreSQL cannot be asked.
        """
        return await self._l1.load(card_id, self._load_one)

    async def _load_one(self, card_id: str) -> CardView | None:
        return (await self._load((card_id,))).get(card_id)

    def store(self, view: CardView) -> None:
        """Remembers a view that a batch had to reload."""
        self._l1.store(view.card.id, view)

    def evict(self, card_id: str) -> None:
        """Forgets a card after a change of it."""
        self._l1.evict(card_id)

    def clear(self) -> None:
        """Forgets every card: something above them changed."""
        self._l1.clear()
