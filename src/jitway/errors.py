"""The failure tree. A refusal of money is a value (`Declined`), never one of these.

JitwayError
├── SettingsError                a setting is missing, malformed or contradicts another
├── InvalidRequest               a field of the caller is wrong; carries its JSON pointer
│   └── MalformedMessage         the bytes are no message at all
├── NotFound                     not there, or not the caller's
├── ScopeExceeded                a key would be given more than its maker has
├── Conflict                     the thing is not in a state that allows this
│   └── IdempotencyConflict      the key was used with other content
├── NoDecision                   we cannot know in time; nothing was answered as approved
├── StoreUnavailable             a store cannot be reached, or did not answer in time
│   ├── LedgerUnavailable        PostgreSQL: money cannot be decided
│   ├── QueryTimeout             the server ended a statement at its limit
│   ├── LockTimeout              a row stayed locked elsewhere until the limit
│   ├── PoolExhausted            no connection became free in time
│   ├── OutcomeUnknown           COMMIT was sent and its answer never came
│   ├── CacheUnavailable         Redis: reads go to PostgreSQL
│   │   └── CacheFull            Redis has no room for a write; reads and removals go on
│   ├── BrokerUnavailable        RabbitMQ is disconnected or blocked; nothing was confirmed
│   │   └── Unroutable           the broker has no queue for the message
│   └── ArchiveUnavailable       MongoDB: the archive is postponed
├── StatementRefused             the database refused a statement: a constraint, a bad value
│   └── TransactionConflict      serialization failure or deadlock: the whole may be repeated
├── Postpone                     a consumer's dependency is away: put off, no attempt is burnt
├── WorkerFailed                 a worker process cannot be started, or kept
├── FiguresUnavailable           nobody said in time what all workers counted
├── SchemaMismatch               the database's schema is not one this release can serve
└── EmbeddedServerError          the embedded PostgreSQL cannot be made, started or reached
"""


class JitwayError(Exception):
    """Anything jitway raises on purpose; the text is fit for the caller's eyes."""


class SettingsError(JitwayError):
    """A setting is missing, malformed or contradicts another."""


class InvalidRequest(JitwayError):
    """A field of the caller is wrong.

    Args:
        detail: one sentence for the caller.
        pointer: JSON pointer to the field to blame, such as `/amount`; None when there is none.
        code: the stable code of the error catalogue.
    """

    def __init__(
        self, detail: str, pointer: str | None = None, code: str = "invalid_request"
    ) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.code = code


class MalformedMessage(InvalidRequest):
    """The bytes are no message at all."""

    def __init__(self, detail: str, pointer: str | None = None) -> None:
        super().__init__(detail, pointer, "malformed_message")


class NotFound(JitwayError):
    """Not there, or not the caller's: the two are not told apart."""


class ScopeExceeded(JitwayError):
    """A key would be given, or show, more scopes than the key that asks has."""


class Conflict(JitwayError):
    """The thing is not in a state that allows this.

    Args:
        detail: one sentence for the caller.
        code: the stable code of the error catalogue.
        existing: the id of the caller's thing that is in the way, where it is one.
    """

    def __init__(self, detail: str, code: str = "conflict", *, existing: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.existing = existing


class IdempotencyConflict(Conflict):
    """The idempotency key was used before, with other content."""

    def __init__(self, detail: str = "this Idempotency-Key was used with other content") -> None:
        super().__init__(detail, "idempotency_conflict")


class NoDecision(JitwayError):
    """We cannot know in time; nothing was answered as approved."""


class StoreUnavailable(JitwayError):
    """A store cannot be reached, or did not answer in time."""


class LedgerUnavailable(StoreUnavailable):
    """PostgreSQL cannot decide about money now."""


class QueryTimeout(StoreUnavailable):
    """The server ended a statement at its limit."""


class LockTimeout(StoreUnavailable):
    """A row stayed locked elsewhere until the limit; nothing was changed."""


class OutcomeUnknown(StoreUnavailable):
    """COMMIT was sent and its answer never came: the transaction may stand or not."""


class PoolExhausted(StoreUnavailable):
    """No connection became free in time."""


class CacheUnavailable(StoreUnavailable):
    """Redis cannot be reached, or did not answer in time."""


class CacheFull(CacheUnavailable):
    """Redis has no room for a write (maxmemory); reads and removals go on."""


class BrokerUnavailable(StoreUnavailable):
    """RabbitMQ is disconnected, blocked or did not confirm in time."""


class Unroutable(BrokerUnavailable):
    """The broker has no queue for the message."""


class ArchiveUnavailable(StoreUnavailable):
    """MongoDB cannot be reached, or did not answer in time."""


class StatementRefused(JitwayError):
    """The database refused a statement.

    Args:
        detail: what it said, without values.
        sqlstate: the five characters of the SQL standard.
        constraint: the name of the broken constraint, which is the name of an invariant.
    """

    def __init__(self, detail: str, sqlstate: str, constraint: str | None = None) -> None:
        super().__init__(detail)
        self.sqlstate = sqlstate
        self.constraint = constraint


class TransactionConflict(StatementRefused):
    """Serialization failure or deadlock (40001, 40P01): the whole may be repeated."""


class Postpone(JitwayError):
    """Raised by a consumer whose dependency is away.

    Its queue pauses; the delivery comes again later, and this does not count as an attempt.
    """


class WorkerFailed(JitwayError):
    """A worker process cannot be started, or not be kept; the text says why."""


class FiguresUnavailable(JitwayError):
    """Nobody said in time what all workers counted."""


class SchemaMismatch(JitwayError):
    """The database's schema is not one this release can serve; the text names the command."""


class EmbeddedServerError(JitwayError):
    """The embedded PostgreSQL cannot be made, started or reached; the text says what to do."""
