"""`batch.py`: the story of one commit. Lock, refresh, check limits, decide, write.

Knows nothing of connections that break or repeats; `lane.py` does. Changes no member before the
commit but for what it asks to be locked next time.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from jitway.adapters.postgresql import DedicatedConnection
from jitway.domain.authorization import abandoned_body, decision_body, status_at_first
from jitway.domain.card import Account, CardView, Standing
from jitway.domain.decision import NO_LIMITS, Decision, check_limits, decide
from jitway.domain.limits import SpendWindow, WindowStarts, window_starts
from jitway.errors import IdempotencyConflict, NoDecision
from jitway.gateway.caller import Answer
from jitway.gateway.waiting import Waiting
from jitway.ledger.account import lock_accounts, lock_owners
from jitway.ledger.journal import BatchOutcome, DecisionRow, write_batch
from jitway.ledger.record import (
    KnownKey,
    Refreshed,
    StoredDecision,
    load_views,
    mark_recalled,
    refresh,
    stored_decisions,
)
from jitway.profiler.trace import Stage, Trace
from jitway.profiler.windows import Label

_encode = msgspec.json.Encoder().encode
_APPROVED: Label = ("approved", "")


@dataclass(slots=True)
class Settled:
    """What a batch came to, told to its members once the commit stands.

    Args:
        answers: members with their answer, or with the error that is theirs alone.
        deferred: members whose lock is held elsewhere.
        approvals: ids and accounts of new approvals by member, should one prove to be late.
        decided: what was written for a member: decision and reason.
        reloaded: views that were stale.
    """

    answers: list[tuple[Waiting, Answer | IdempotencyConflict | NoDecision]] = field(
        default_factory=list
    )
    deferred: list[Waiting] = field(default_factory=list)
    approvals: dict[Waiting, tuple[str, str]] = field(default_factory=dict)
    decided: dict[Waiting, Label] = field(default_factory=dict)
    reloaded: list[CardView] = field(default_factory=list)

    def defer(self, member: Waiting) -> None:
        """Puts a member off to the batch that holds its lock."""
        self.deferred.append(member)


class Batch:
    """One transaction's worth of requests on one connection.

    Args:
        connection: in a transaction that has done nothing yet.
        members: in the order in which they came.
        trace: of the batch; its stages are charged to every member.
        hold_ttl: how long an approval reserves its amount.
        reserve_ns: members with less time left than this are left out before the write.
        waiting_for_lock: wait for the first member's locks instead of skipping them.
    """

    def __init__(
        self,
        connection: DedicatedConnection,
        members: list[Waiting],
        *,
        trace: Trace,
        hold_ttl: timedelta,
        reserve_ns: int,
        waiting_for_lock: bool,
    ) -> None:
        self._connection = connection
        self._members = members
        self._trace = trace
        self._hold_ttl = hold_ttl
        self._reserve_ns = reserve_ns
        self._waiting_for_lock = waiting_for_lock
        self._accounts: dict[str, Account] = {}
        self._windows: dict[str, SpendWindow] = {}
        self._starts: dict[str, WindowStarts] = {}
        self.settled = Settled()

    async def decide(self) -> bool:
        """Decides every member it can lock and writes all of it, ready to be committed.

        Returns:
            Whether there is something to commit.

        Raises:
            StatementRefused, StoreUnavailable: nothing stands; roll back.
        """
        covered = await self._lock(self._members)
        if not covered:
            return False
        fresh = await refresh(self._connection, covered)
        recalled = await self._recall(covered, fresh)
        views = await self._reload_stale(covered, fresh)
        self._windows.update(fresh.windows)
        self._trace.mark(Stage.REFRESH)

        outcome = BatchOutcome(fresh.decided_at, fresh.decided_at + self._hold_ttl)
        keys: set[tuple[str, bytes]] = set()
        for member, known in zip(covered, fresh.known, strict=True):
            if known is not None or not self._can_decide(member, views, keys):
                continue
            self._decide_one(member, views.get(member), outcome)
        if outcome.decisions:
            await write_batch(self._connection, outcome)
        self._trace.mark(Stage.WRITE)
        return bool(outcome.decisions) or recalled

    async def _lock(self, members: list[Waiting]) -> list[Waiting]:
        """The members whose account, and owners of wide limits, this transaction holds now."""
        wanted = {member.account_id for member in members if member.account_id}
        if self._waiting_for_lock and (first := members[0].account_id):
            # Waiting for one alone, holding nothing else, cannot deadlock; the rest is only tried.
            self._accounts = await lock_accounts(self._connection, [first], waiting=True)
            wanted.discard(first)
        if wanted:
            self._accounts |= await lock_accounts(self._connection, wanted)
        owners = {owner_id for member in members for owner_id in member.wide_owners}
        if owners:
            await self._lock_owners(members, owners)
        self._trace.mark(Stage.ACCOUNT_LOCK)

        covered = []
        for member in members:
            if self._holds_locks_of(member):
                covered.append(member)
            else:
                self.settled.defer(member)
        return covered

    async def _lock_owners(self, members: list[Waiting], owners: set[str]) -> None:
        if self._waiting_for_lock and members[0].account_id in self._accounts:
            first = members[0].wide_owners
            if first:
                self._windows |= await lock_owners(self._connection, first, waiting=True)
            owners = owners.difference(first)
        if owners:
            self._windows |= await lock_owners(self._connection, owners)

    def _holds_locks_of(self, member: Waiting) -> bool:
        if member.account_id is not None and member.account_id not in self._accounts:
            return False
        owners = member.wide_owners
        return not owners or all(owner_id in self._windows for owner_id in owners)

    async def _recall(self, covered: list[Waiting], fresh: Refreshed) -> bool:
        """Answers those whose key was used before; whether that needs a commit."""
        known = [
            (member, key)
            for member, key in zip(covered, fresh.known, strict=True)
            if key is not None
        ]
        if not known:
            return False
        same = [key.subject for member, key in known if key.content == member.content]
        stored = await stored_decisions(self._connection, same)
        protect: list[str] = []
        for member, key in known:
            self._recall_one(member, key, stored.get(key.subject), protect)
        if protect:
            await mark_recalled(self._connection, protect, fresh.decided_at)
        return bool(protect)

    def _recall_one(
        self,
        member: Waiting,
        key: KnownKey,
        stored: StoredDecision | None,
        protect: list[str],
    ) -> None:
        if key.content != member.content:
            self.settled.answers.append((member, IdempotencyConflict()))
            return
        assert stored is not None, "a key points to a decision that is not there"
        # Our own commit of unknown outcome, now known to stand: nobody was answered yet.
        replayed = key.subject != member.authorization_digits
        if stored.abandoned:
            answer = Answer(200, abandoned_body(stored.body), replayed=replayed)
        elif not stored.reserves:
            answer = Answer(200, stored.body, replayed=replayed)
        elif stored.account_id not in self._accounts:
            # The card's money was elsewhere then: that account's lock guards the old hold.
            member.lock_account(stored.account_id)
            self.settled.defer(member)
            return
        else:
            answer = Answer(200, stored.body, replayed=replayed)
            if not replayed:
                self.settled.approvals[member] = (stored.id, stored.account_id)
            elif not stored.recalled and not member.unattended:
                protect.append(key.subject)
        self.settled.answers.append((member, answer))

    async def _reload_stale(
        self, covered: list[Waiting], fresh: Refreshed
    ) -> dict[Waiting, CardView]:
        """The view of each member as the lock sees it; a difference of versions is a reload."""
        views: dict[Waiting, CardView] = {}
        stale: list[Waiting] = []
        for member, versions in zip(covered, fresh.versions, strict=True):
            if versions is None:
                continue
            if member.view is not None and member.view.versions == versions:
                views[member] = member.view
            else:
                stale.append(member)
        if stale:
            card_ids = {member.card_id for member in stale if member.card_id}
            reloaded = await load_views(self._connection, card_ids)
            self.settled.reloaded.extend(reloaded.values())
            for member in stale:
                assert member.card_id is not None
                views[member] = member.view = reloaded[member.card_id]
        return views

    def _can_decide(
        self,
        member: Waiting,
        views: dict[Waiting, CardView],
        keys: set[tuple[str, bytes]],
    ) -> bool:
        """Whether a member with a fresh key goes into this write."""
        if (member.scope, member.key) in keys:
            # The same key twice: the second is recalled once the first is committed.
            self.settled.defer(member)
            return False
        view = views.get(member)
        if view is not None and member.sees(view):
            member.lock_account(view.account_id)
            if not self._holds_locks_of(member):
                self.settled.defer(member)
                return False
        if not member.has_time_for(self._reserve_ns):
            late = NoDecision("too little time was left to write the decision")
            self.settled.answers.append((member, late))
            return False
        keys.add((member.scope, member.key))
        return True

    def _decide_one(self, member: Waiting, view: CardView | None, outcome: BatchOutcome) -> None:
        request = member.request
        standing = None
        limits = NO_LIMITS
        if view is not None and member.sees(view):
            account = self._accounts[view.account_id]
            starts = self._starts_in(view, outcome.decided_at)
            standing = Standing(view, account, self._windows, starts, outcome.decided_at)
            limits = check_limits(request, standing)
        self._trace.mark(Stage.LIMITS_CHECK)
        decision = decide(request, standing, limits)
        if decision.approved_amount:
            assert standing is not None
            self._apply(decision, standing, outcome)
        self._trace.mark(Stage.DECISION)
        row = self._row(member, decision, standing, outcome)
        outcome.decisions.append(row)
        self._trace.mark(Stage.WRITE)
        self.settled.answers.append((member, Answer(200, row.body)))
        if decision.approved:
            if decision.approved_amount:
                assert standing is not None
                self.settled.approvals[member] = (f"aut_{row.id}", standing.account.id)
            self.settled.decided[member] = _APPROVED
        else:
            self.settled.decided[member] = ("declined", decision.reason or "")

    def _starts_in(self, view: CardView, instant: datetime) -> WindowStarts:
        """The windows of this instant, once for each program of the batch."""
        starts = self._starts.get(view.program.id)
        if starts is None:
            starts = self._starts[view.program.id] = window_starts(instant, view.zone)
        return starts

    def _apply(self, decision: Decision, standing: Standing, outcome: BatchOutcome) -> None:
        """Changes the account and the windows for the requests that come after this one."""
        outcome.changes(standing.account)
        standing.account.hold(decision.approved_amount)
        for level in standing.view.levels:
            window = self._windows.get(level.id)
            if window is not None:
                window.add(decision.approved_amount, standing.starts)
                outcome.windows[level.id] = window

    def _row(
        self,
        member: Waiting,
        decision: Decision,
        standing: Standing | None,
        outcome: BatchOutcome,
    ) -> DecisionRow:
        request = member.request
        digits = member.authorization_digits
        account = standing.account if standing else None
        view = standing.view if standing else None
        reserves = decision.approved_amount > 0
        body = decision_body(
            id=f"aut_{digits}",
            approved=decision.approved,
            reason=decision.reason,
            card=request.card,
            account=account.id if account else None,
            amount=request.amount,
            approved_amount=decision.approved_amount,
            currency=request.currency,
            available=account.available if account else None,
            account_version=account.version if account else None,
            decided_at=outcome.decided_at,
            expires_at=outcome.expires_at if reserves else None,
            status=status_at_first(approved=decision.approved, reserves=reserves),
        )
        return DecisionRow(
            scope=member.scope,
            key=member.key,
            content=member.content,
            id=digits,
            program_id=view.program.id[4:] if view else member.program_digits,
            cardholder_id=view.cardholder.id[4:] if view else None,
            card_id=view.card.id[4:] if view else None,
            account_id=account.id[4:] if account else None,
            reason=decision.reason,
            kind=request.kind,
            amount=request.amount,
            approved_amount=decision.approved_amount,
            currency=request.currency,
            account_version=account.version if account else None,
            body=body,
            request=member.canonical,
            explanation=_encode(decision.findings).decode(),
            circumstances=self._circumstances(member, view),
        )

    def _circumstances(self, member: Waiting, view: CardView | None) -> str:
        """What the rules were seen under.

        That is the versions of program, cardholder and card, and the microseconds of each stage
        until now: what follows, the write and the commit, cannot be in what is written.
        """
        own, shared = member.trace, self._trace
        decode, card_lookup, user_lookup, waited = own.spans_ns[: Stage.ACCOUNT_LOCK]
        waited += shared.started_ns - own.last_ns
        spans_us = [
            span_ns // 1000
            for span_ns in (
                *(decode, card_lookup, user_lookup, waited),
                *shared.spans_ns[Stage.ACCOUNT_LOCK : Stage.WRITE],
            )
        ]
        return _encode({"versions": view and view.versions, "spans_us": spans_us}).decode()
