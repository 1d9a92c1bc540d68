-- The whole ledger, designed for every stage of an authorization's life; later files only add.
-- No statement names a schema: the ledger is wherever search_path points.
-- Ids are made by the application and ordered by time (UUID version 7). Amounts are minor units.

-- Reference data: who may spend, and by which rules -------------------------------------------

CREATE TABLE program (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL,
    currency    text        NOT NULL CONSTRAINT program_currency_is_iso CHECK (currency ~ '^[A-Z]{3}$'),
    -- Never changes: the windows of every card of the program are counted by its calendar.
    time_zone   text        NOT NULL,
    state       text        NOT NULL DEFAULT 'active'
        CONSTRAINT program_state_is_known CHECK (state IN (
            'active',       -- cards may spend
            'suspended',    -- active <-> suspended (operator)
            'closed')),     -- any -> closed, for good
    -- Every change of this row, or of the controls it owns, adds one.
    version     bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL
);

-- The program's side of every transfer. It stores no balance and is never locked: its balance is
-- the sum of its transfers.
CREATE TABLE system_account (
    id          uuid        PRIMARY KEY,
    program_id  uuid        NOT NULL REFERENCES program,
    code        text        NOT NULL CONSTRAINT system_account_code_is_known CHECK (code IN (
        'program_funding', 'network_settlement', 'fees', 'disputes', 'fx')),
    currency    text        NOT NULL,
    CONSTRAINT system_account_is_one_per_code UNIQUE (program_id, code, currency)
);

CREATE TABLE cardholder (
    id          uuid        PRIMARY KEY,
    program_id  uuid        NOT NULL REFERENCES program,
    external_id text,
    name        text,
    state       text        NOT NULL DEFAULT 'active'
        CONSTRAINT cardholder_state_is_known CHECK (state IN ('active', 'suspended', 'closed')),
    version     bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL,
    CONSTRAINT cardholder_external_id_is_unique UNIQUE (program_id, external_id)
);

-- A funding account: the row is the lock and the guard of its money.
-- No index on a column that changes, and room on the page, so that every update stays in place.
CREATE TABLE account (
    id            uuid        PRIMARY KEY,
    program_id    uuid        NOT NULL REFERENCES program,
    cardholder_id uuid        REFERENCES cardholder,
    currency      text        NOT NULL,
    state         text        NOT NULL DEFAULT 'active'
        CONSTRAINT account_state_is_known CHECK (state IN ('active', 'frozen', 'closed')),
    posted        bigint      NOT NULL DEFAULT 0,
    held          bigint      NOT NULL DEFAULT 0 CONSTRAINT held_not_negative CHECK (held >= 0),
    -- Minus the credit line.
    floor         bigint      NOT NULL DEFAULT 0 CONSTRAINT floor_not_positive CHECK (floor <= 0),
    -- What facts from the network, and cuts of the credit line, took below the floor.
    shortfall     bigint      NOT NULL DEFAULT 0 CONSTRAINT shortfall_not_negative CHECK (shortfall >= 0),
    -- A gapless sequence of the changes of balance and state: the witness order.
    version       bigint      NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL,
    CONSTRAINT available_not_below_floor CHECK (posted - held + shortfall >= floor),
    CONSTRAINT balance_within_bounds CHECK (
        posted BETWEEN -1000000000000000000 AND 1000000000000000000 AND held <= 1000000000000000000)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX account_by_cardholder ON account (cardholder_id);

CREATE TABLE card (
    id            uuid        PRIMARY KEY,
    program_id    uuid        NOT NULL REFERENCES program,
    cardholder_id uuid        NOT NULL REFERENCES cardholder,
    account_id    uuid        NOT NULL REFERENCES account,
    external_id   text,
    last4         text        CONSTRAINT last4_is_four_digits CHECK (last4 ~ '^[0-9]{4}$'),
    state         text        NOT NULL DEFAULT 'active'
        CONSTRAINT card_state_is_known CHECK (state IN (
            'active',    -- may spend
            'frozen',    -- active <-> frozen (operator or cardholder)
            'closed')),  -- any -> closed, for good
    version       bigint      NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL,
    CONSTRAINT card_external_id_is_unique UNIQUE (program_id, external_id)
);

CREATE INDEX card_by_account ON card (account_id);
CREATE INDEX card_by_cardholder ON card (cardholder_id);

-- Limits and lists of one card, cardholder or program; a change adds one to the owner's version.
CREATE TABLE spend_control (
    owner_id    uuid        PRIMARY KEY,
    owner_kind  text        NOT NULL CHECK (owner_kind IN ('card', 'cardholder', 'program')),
    program_id  uuid        NOT NULL REFERENCES program,
    controls    jsonb       NOT NULL,
    changed_at  timestamptz NOT NULL
);

-- The current windows of one owner of limits, in one row that is updated in place. Every card has
-- one from birth, under the lock of its account. A cardholder or a program has one as soon as it
-- has a limit; that row is then a lock of its own, since several accounts spend against it.
-- Each counts what is held or captured of the approvals of its window, by the program's calendar.
CREATE TABLE spend_window (
    owner_id        uuid    PRIMARY KEY,
    owner_kind      text    NOT NULL CHECK (owner_kind IN ('card', 'cardholder', 'program')),
    program_id      uuid    NOT NULL,
    version         bigint  NOT NULL DEFAULT 0,
    day_start       date    NOT NULL DEFAULT '-infinity',
    day_amount      bigint  NOT NULL DEFAULT 0,
    day_count       bigint  NOT NULL DEFAULT 0,
    week_start      date    NOT NULL DEFAULT '-infinity',
    week_amount     bigint  NOT NULL DEFAULT 0,
    week_count      bigint  NOT NULL DEFAULT 0,
    month_start     date    NOT NULL DEFAULT '-infinity',
    month_amount    bigint  NOT NULL DEFAULT 0,
    month_count     bigint  NOT NULL DEFAULT 0,
    year_start      date    NOT NULL DEFAULT '-infinity',
    year_amount     bigint  NOT NULL DEFAULT 0,
    year_count      bigint  NOT NULL DEFAULT 0,
    lifetime_amount bigint  NOT NULL DEFAULT 0,
    lifetime_count  bigint  NOT NULL DEFAULT 0,
    CONSTRAINT spend_not_negative CHECK (
        day_amount >= 0 AND week_amount >= 0 AND month_amount >= 0 AND year_amount >= 0
        AND lifetime_amount >= 0 AND day_count >= 0 AND week_count >= 0 AND month_count >= 0
        AND year_count >= 0 AND lifetime_count >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Decisions and money ---------------------------------------------------------------------------
-- No foreign keys from here on: each cost a lock and a probe per authorization; `verify` proves
-- the references instead.

-- One answer to one request. Append-only. `body` is the answer's bytes, for a repeat and for the
-- event; `request` the caller's canonical content; `explanation` the rules with what they saw.
CREATE TABLE decision (
    id              uuid        PRIMARY KEY,
    -- Whose key space the request came from: a program, or all zeros for the operator.
    scope           uuid        NOT NULL,
    program_id      uuid,
    cardholder_id   uuid,
    card_id         uuid,
    account_id      uuid,
    outcome         text        NOT NULL CHECK (outcome IN ('approved', 'declined')),
    reason          text,
    kind            text        NOT NULL,
    amount          bigint      NOT NULL CONSTRAINT decision_amount_not_negative CHECK (amount >= 0),
    approved_amount bigint      NOT NULL,
    currency        text        NOT NULL,
    -- An approval made this version of its account; a decline saw it.
    account_version bigint,
    -- The order within one commit, where versions are equal.
    place           integer     NOT NULL,
    decided_at      timestamptz NOT NULL,
    body            text        NOT NULL,
    request         text        NOT NULL,
    explanation     text        NOT NULL,
    CONSTRAINT approved_amount_within_request CHECK (approved_amount BETWEEN 0 AND amount),
    CONSTRAINT declined_has_reason CHECK ((outcome = 'declined') = (reason IS NOT NULL)),
    CONSTRAINT declined_approves_nothing CHECK (outcome = 'approved' OR approved_amount = 0),
    CONSTRAINT approved_knows_its_account CHECK (
        outcome = 'declined' OR (account_id IS NOT NULL AND card_id IS NOT NULL))
);

CREATE INDEX decision_by_account ON decision (account_id, id);

-- Funds reserved by an approval: a pending transfer, and what became of it. Same id as its decision.
CREATE TABLE hold (
    id              uuid        PRIMARY KEY,
    account_id      uuid        NOT NULL,
    amount          bigint      NOT NULL CONSTRAINT hold_amount_positive CHECK (amount > 0),
    captured        bigint      NOT NULL DEFAULT 0,
    released        bigint      NOT NULL DEFAULT 0,
    -- Facts from the network above what was held, or after it ended.
    captured_beyond bigint      NOT NULL DEFAULT 0,
    state           text        NOT NULL DEFAULT 'active' CHECK (state IN (
        'active',       -- something remains
        'captured',     -- active -> captured: nothing remains, something was captured
        'released',     -- active -> released (reversal)
        'expired',      -- active -> expired (our clock)
        'abandoned')),  -- active -> abandoned: the approval was never answered
    expires_at      timestamptz NOT NULL,
    -- Set before a stored approval is answered again; such a hold is never abandoned.
    recalled_at     timestamptz,
    closed_at       timestamptz,
    CONSTRAINT hold_is_accounted_for CHECK (
        captured >= 0 AND released >= 0 AND captured_beyond >= 0 AND captured + released <= amount
        AND (state = 'active') = (captured + released < amount)),
    CONSTRAINT hold_closed_at_set_unless_active CHECK ((state = 'active') = (closed_at IS NULL)),
    CONSTRAINT recalled_is_not_abandoned CHECK (state <> 'abandoned' OR recalled_at IS NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX hold_by_expiry ON hold (expires_at) WHERE state = 'active';

-- One debit and one credit of equal amount: balanced by construction, append-only.
-- `account_id` is the funding account it changes; the other side is a system account.
CREATE TABLE transfer (
    id                uuid        PRIMARY KEY,
    program_id        uuid        NOT NULL,
    account_id        uuid        NOT NULL,
    kind              text        NOT NULL CHECK (kind IN (
        'deposit', 'withdrawal', 'capture', 'reversal', 'expiry', 'abandonment')),
    -- 'posted' moves money; 'pending' gives back what a hold reserved.
    layer             text        NOT NULL CHECK (layer IN ('posted', 'pending')),
    debit_account_id  uuid        NOT NULL,
    credit_account_id uuid        NOT NULL,
    amount            bigint      NOT NULL CONSTRAINT transfer_amount_positive CHECK (amount > 0),
    currency          text        NOT NULL,
    -- How this transfer changed the account's held amount: never above zero.
    held_change       bigint      NOT NULL DEFAULT 0 CHECK (held_change <= 0),
    authorization_id  uuid,
    account_version   bigint      NOT NULL,
    description       text,
    recorded_at       timestamptz NOT NULL,
    CONSTRAINT transfer_has_two_sides CHECK (debit_account_id <> credit_account_id),
    CONSTRAINT transfer_touches_its_account CHECK (account_id IN (debit_account_id, credit_account_id)),
    CONSTRAINT pending_transfer_only_releases CHECK (layer = 'posted' OR held_change = -amount)
);

CREATE UNIQUE INDEX transfer_by_account ON transfer (account_id, account_version);
CREATE INDEX transfer_by_authorization ON transfer (authorization_id) WHERE authorization_id IS NOT NULL;

-- Same key, same answer: the narrow table that alone keeps a key unique, also where no account is
-- locked. `key` and `content` are 16-byte digests; `subject` is what the first request made.
CREATE TABLE idempotency_key (
    scope   uuid  NOT NULL,
    key     bytea NOT NULL,
    content bytea NOT NULL,
    subject uuid  NOT NULL,
    PRIMARY KEY (scope, key)
);

-- `subject` is ordered by time, so old keys are found by block without an index that costs.
CREATE INDEX idempotency_key_by_age ON idempotency_key USING brin (subject);

-- The stored answers of routes whose answer is no decision.
CREATE TABLE answer (
    scope      uuid        NOT NULL,
    key        bytea       NOT NULL,
    status     smallint    NOT NULL,
    body       text        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX answer_by_age ON answer USING brin (created_at);

-- What the rest of the company must hear, written by the statement that made it true.
-- `id` has the digits of what happened, so nothing can be announced twice. Without a body the
-- event is built from the immutable row that `id` names. Rows go to the slot of their hour; a
-- drained slot is truncated before the clock comes round to it.
CREATE TABLE outbox (
    slot            smallint    NOT NULL,
    id              uuid        NOT NULL,
    type            text        NOT NULL,
    program_id      uuid,
    account_id      uuid,
    account_version bigint,
    occurred_at     timestamptz NOT NULL,
    body            text,
    attempts        integer     NOT NULL DEFAULT 0,
    lease_token     bigint,
    lease_until     timestamptz,
    published_at    timestamptz,
    PRIMARY KEY (slot, id)
) PARTITION BY LIST (slot);

CREATE TABLE outbox_0 PARTITION OF outbox FOR VALUES IN (0);
CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES IN (2);
CREATE TABLE outbox_3 PARTITION OF outbox FOR VALUES IN (3);
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_at IS NULL;

-- The house ---------------------------------------------------------------------------------------

-- Keys are 256 random bits, so a plain SHA-256 is as good as a slow hash and costs nothing.
CREATE TABLE api_key (
    id         uuid        PRIMARY KEY,
    program_id uuid        REFERENCES program,
    scopes     text[]      NOT NULL,
    digest     bytea       NOT NULL CONSTRAINT api_key_is_unique UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE audit (
    id         uuid        PRIMARY KEY,
    actor      text        NOT NULL,
    action     text        NOT NULL,
    program_id uuid,
    subject    text        NOT NULL,
    before     jsonb,
    after      jsonb,
    reason     text,
    -- Set where the act changed an account: the version it made.
    account_id      uuid,
    account_version bigint,
    recorded_at timestamptz NOT NULL
);

CREATE INDEX audit_by_subject ON audit (subject, id);
CREATE UNIQUE INDEX audit_by_account ON audit (account_id, account_version) WHERE account_version IS NOT NULL;

-- Work that one process at a time does. The token grows with every holder: a frozen one that wakes
-- up late finds its token gone.
CREATE TABLE lease (
    name   text        PRIMARY KEY,
    holder text        NOT NULL,
    token  bigint      NOT NULL,
    until  timestamptz NOT NULL
);
