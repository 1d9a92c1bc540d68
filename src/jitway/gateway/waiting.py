"""`waiting.py`: one request on its way to a decision, and the one answer it gets."""

import asyncio
from collections.abc import Callable

from jitway.domain.card import CardView
from jitway.domain.message import Authorization
from jitway.errors import JitwayError, NoDecision
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.profiler.trace import Trace
from jitway.profiler.windows import Label


class Waiting:
    """A request, what is known of its card, and the future its caller waits for.

    Args:
        request: what is asked.
        caller: by whom.
        idempotency: under which key, with which content.
        canonical: the request's canonical JSON, kept with the decision.
        card_id: the card, when it has the form of one of our ids.
        view: the card as it was last seen; None when it is not known.
        authorization_digits: the digits of the id this request's decision will have.
        deadline_ns: the monotonic instant after which no approval may be answered.
        monotonic_ns: nanoseconds of the clock of that instant.
        trace: where the request's time goes.
    """

    __slots__ = (
        "_budget_ns",
        "_caller",
        "_future",
        "_monotonic_ns",
        "account_id",
        "authorization_digits",
        "canonical",
        "card_id",
        "content",
        "deadline_ns",
        "key",
        "program_digits",
        "request",
        "scope",
        "trace",
        "unanswered",
        "unsettled",
        "view",
    )

    def __init__(  # noqa: PLR0913 one argument for each thing known of it
        self,
        request: Authorization,
        caller: Caller,
        idempotency: Idempotency,
        *,
        canonical: str,
        card_id: str | None,
        view: CardView | None,
        authorization_digits: str,
        deadline_ns: int,
        monotonic_ns: Callable[[], int],
        trace: Trace,
    ) -> None:
        self.request = request
        self._caller = caller
        self.scope = caller.scope
        self.program_digits = caller.program_id and caller.program_id[4:]
        self.key = idempotency.key
        self.content = idempotency.content
        self.canonical = canonical
        self.card_id = card_id
        self.view = view
        self.authorization_digits = authorization_digits
        self.deadline_ns = deadline_ns
        self._budget_ns = deadline_ns - trace.started_ns
        self._monotonic_ns = monotonic_ns
        self.trace = trace
        self.account_id = view.account_id if view and self.sees(view) else None
        # Approvals of ours that may stand, with their accounts, until the caller has the answer.
        self.unanswered: dict[str, str] = {}
        # What was decided by a commit of unknown outcome; it is counted once that is known.
        self.unsettled: Label | None = None
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Answer] = loop.create_future()

    @property
    def lock(self) -> str | None:
        """The account whose lock guards the decision."""
        return self.account_id

    @property
    def answered(self) -> bool:
        """Whether no batch need take it: it is unattended, and nothing of it is to be found out."""
        return self._future.done() and self.unsettled is None

    @property
    def unattended(self) -> bool:
        """Whether the caller has an answer, or has gone."""
        return self._future.done()

    @property
    def wide_owners(self) -> tuple[str, ...]:
        """Owners of limits over several accounts, to be locked too."""
        if self.view is None or self.account_id is None:
            return ()
        return self.view.wide_owners

    def sees(self, view: CardView) -> bool:
        """Whether this card exists for this caller."""
        return self._caller.may_see(view.program.id)

    def lock_account(self, account_id: str | None) -> None:
        """Asks for another account's lock from now on."""
        self.account_id = account_id

    def ns_left(self) -> int:
        """Nanoseconds until the deadline; negative when it has passed."""
        return self.deadline_ns - self._monotonic_ns()

    def has_time_for(self, span_ns: int) -> bool:
        """Whether so much time is left; half of the budget is always taken for enough.

        There is none when nobody waits any more. After one long stall every fresh request must
        still get through, whatever its budget is, or nothing would ever show that it is over.
        """
        return not self._future.done() and self.ns_left() >= min(span_ns, self._budget_ns // 2)

    def answer(self, answer: Answer | JitwayError) -> bool:
        """Gives the caller their answer.

        Returns:
            Whether they got it: False when they had another one, or when it is an answer of ours
            and the deadline has passed.
        """
        if self._future.done():
            return False
        if isinstance(answer, JitwayError):
            self._future.set_exception(answer)
            return True
        if self.ns_left() <= 0:
            self._future.set_exception(NoDecision("the deadline passed"))
            return False
        self._future.set_result(answer)
        return True

    async def wait(self, unanswered: Callable[["Waiting"], None]) -> Answer:
        """The answer, at the deadline at the latest.

        Args:
            unanswered: told when there is no decision or the caller has gone; an approval of ours
                that may stand must then be voided.

        Raises:
            NoDecision: there was none in time.
            IdempotencyConflict: the key was used with other content.
        """
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0, self.ns_left()) / 1e9, self._expire)
        try:
            return await self._future
        except NoDecision:
            unanswered(self)
            raise
        except asyncio.CancelledError:
            unanswered(self)
            if not self._future.cancelled():
                # It was answered as the caller left: nobody will look at an error any more.
                self._future.exception()
            raise
        finally:
            timer.cancel()

    def _expire(self) -> None:
        if not self._future.done():
            self._future.set_exception(NoDecision("the deadline passed before a decision stood"))
