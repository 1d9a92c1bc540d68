-- The statements of one batch, in the order in which it runs them. Each is one round trip,
-- whatever the size of the batch.

-- name: lock_accounts
-- Rows locked elsewhere are skipped; their requests wait.
SELECT id, currency, state, posted, held, floor, shortfall, version
FROM account
WHERE id = ANY ($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_account_waiting
-- Alone and holding nothing else, a waiter cannot deadlock; lock_timeout bounds it.
SELECT id, currency, state, posted, held, floor, shortfall, version
FROM account
WHERE id = ANY ($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE

-- name: lock_owners
-- After the accounts. A row lock returns the newest version of its row, so these are fresh.
SELECT owner_id, version, day_start, week_start, month_start, year_start,
    day_amount, week_amount, month_amount, year_amount, lifetime_amount,
    day_count, week_count, month_count, year_count, lifetime_count
FROM spend_window
WHERE owner_id = ANY ($1::uuid[])
ORDER BY owner_id
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_owners_waiting
SELECT owner_id, version, day_start, week_start, month_start, year_start,
    day_amount, week_amount, month_amount, year_amount, lifetime_amount,
    day_count, week_count, month_count, year_count, lifetime_count
FROM spend_window
WHERE owner_id = ANY ($1::uuid[])
ORDER BY owner_id
FOR NO KEY UPDATE

-- name: refresh
-- A statement of its own, after the locks: the locking statement itself may pair a new account row
-- with old rows of other tables. One row per request, in the order of the requests.
SELECT statement_timestamp() AS decided_at,
    program.version AS program_version,
    cardholder.version AS cardholder_version,
    card.version AS card_version,
    spent.version, spent.day_start, spent.week_start, spent.month_start, spent.year_start,
    spent.day_amount, spent.week_amount, spent.month_amount, spent.year_amount,
    spent.lifetime_amount,
    spent.day_count, spent.week_count, spent.month_count, spent.year_count, spent.lifetime_count,
    known.content AS known_content, known.subject AS known_subject
FROM unnest($1::uuid[], $2::uuid[], $3::bytea[])
    WITH ORDINALITY AS asked (card_id, scope, key, place)
LEFT JOIN card ON card.id = asked.card_id
LEFT JOIN cardholder ON cardholder.id = card.cardholder_id
LEFT JOIN program ON program.id = card.program_id
LEFT JOIN spend_window AS spent ON spent.owner_id = card.id
LEFT JOIN idempotency_key AS known ON known.scope = asked.scope AND known.key = asked.key
ORDER BY asked.place

-- name: load_views
-- Cards with everything above them that a decision needs and that is no money.
SELECT card.id AS card_id, card.state AS card_state, card.version AS card_version,
    card.account_id, card.valid_from, card.valid_until,
    card_control.controls AS card_controls,
    cardholder.id AS cardholder_id, cardholder.state AS cardholder_state,
    cardholder.version AS cardholder_version,
    cardholder_control.controls AS cardholder_controls,
    program.id AS program_id, program.state AS program_state,
    program.version AS program_version, program.time_zone,
    program_control.controls AS program_controls
FROM card
JOIN cardholder ON cardholder.id = card.cardholder_id
JOIN program ON program.id = card.program_id
LEFT JOIN spend_control AS card_control ON card_control.owner_id = card.id
LEFT JOIN spend_control AS cardholder_control ON cardholder_control.owner_id = cardholder.id
LEFT JOIN spend_control AS program_control ON program_control.owner_id = program.id
WHERE card.id = ANY ($1::uuid[])

-- name: stored_decisions
-- What earlier requests with the same key were answered, and whether their hold was abandoned.
SELECT decision.id, decision.outcome, decision.body, decision.account_id,
    hold.state AS hold_state, hold.recalled_at
FROM decision
LEFT JOIN hold ON hold.id = decision.id
WHERE decision.id = ANY ($1::uuid[])

-- name: mark_recalled
-- Under the lock of their accounts, before a stored approval is answered again: from now on it
-- cannot be abandoned.
UPDATE hold SET recalled_at = $2
WHERE id = ANY ($1::uuid[]) AND state <> 'abandoned' AND recalled_at IS NULL
RETURNING id

-- name: learn_row_types
-- On a fresh connection, so that no batch has to learn them under its locks.
SELECT NULL::decided_row[], NULL::account_change[], NULL::window_change[]

-- name: write_batch
-- Everything a batch decided, in one statement. The counts tell whether every row went where it
-- was expected; when one did not, the whole transaction is rolled back. Keys come first, and when
-- one of them was taken nothing else is written: a request of unknown outcome that is decided
-- again has the same ids, and must be told that its key is taken, not that its row is.
WITH keys AS (
    INSERT INTO idempotency_key (scope, key, content, subject)
    SELECT scope, key, content, id
    FROM unnest($1::decided_row[])
    ORDER BY scope, key
    ON CONFLICT DO NOTHING
    RETURNING 1
), decisions AS (
    INSERT INTO decision (id, scope, program_id, cardholder_id, card_id, account_id, outcome,
        reason, kind, amount, approved_amount, currency, account_version, place, decided_at,
        body, request, explanation, circumstances)
    SELECT id, scope, program_id, cardholder_id, card_id, account_id,
        CASE WHEN reason IS NULL THEN 'approved' ELSE 'declined' END,
        reason, kind, amount, approved_amount, currency, account_version, place - 1, $2,
        body, request, explanation, circumstances
    FROM unnest($1::decided_row[]) WITH ORDINALITY
        AS new (scope, key, content, id, program_id, cardholder_id, card_id, account_id, reason,
            kind, amount, approved_amount, currency, account_version, body, request, explanation,
            circumstances, place)
    WHERE (SELECT count(*) FROM keys) = cardinality($1)
    RETURNING id, outcome, program_id, account_id, account_version, approved_amount
), holds AS (
    INSERT INTO hold (id, account_id, amount, expires_at)
    SELECT id, account_id, approved_amount, $3 FROM decisions WHERE approved_amount > 0
    RETURNING 1
), announced AS (
    INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
    SELECT $4, id, 'jit-funding.' || outcome, program_id, account_id, account_version, $2
    FROM decisions
    RETURNING 1
), accounts AS (
    UPDATE account SET held = account.held + new.held_change, version = new.version
    FROM unnest($5::account_change[]) AS new
    WHERE account.id = new.id AND account.version = new.version_read
    RETURNING 1
), windows AS (
    UPDATE spend_window SET version = new.version_read + 1,
        day_start = new.day_start, week_start = new.week_start,
        month_start = new.month_start, year_start = new.year_start,
        day_amount = new.day_amount, week_amount = new.week_amount,
        month_amount = new.month_amount, year_amount = new.year_amount,
        lifetime_amount = new.lifetime_amount,
        day_count = new.day_count, week_count = new.week_count,
        month_count = new.month_count, year_count = new.year_count,
        lifetime_count = new.lifetime_count
    FROM unnest($6::window_change[]) AS new
    WHERE spend_window.owner_id = new.owner_id AND spend_window.version = new.version_read
    RETURNING 1
)
SELECT (SELECT count(*) FROM keys) AS keys,
    (SELECT count(*) FROM decisions) AS decisions,
    (SELECT count(*) FROM holds) AS holds,
    (SELECT count(*) FROM announced) AS announced,
    (SELECT count(*) FROM accounts) AS accounts,
    (SELECT count(*) FROM windows) AS windows
