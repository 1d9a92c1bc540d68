-- The statements of every verb but authorize: one account, one hold, one transfer at a time.
-- Locks in the order of everybody: account, windows, hold, key.

-- name: recall
SELECT known.content, answer.status, answer.body
FROM idempotency_key AS known
LEFT JOIN answer ON answer.scope = known.scope AND answer.key = known.key
WHERE known.scope = $1 AND known.key = $2

-- name: instant
SELECT statement_timestamp() AS now

-- name: claim_key
-- Waits for another request with the same key; no row when that one was done.
INSERT INTO idempotency_key (scope, key, content, subject) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING statement_timestamp() AS now

-- name: store_answer
INSERT INTO answer (scope, key, status, body, created_at) VALUES ($1, $2, $3, $4, $5)

-- name: authorized
-- What an approval was, which never changes; read before any lock.
SELECT decision.id, decision.program_id, decision.cardholder_id, decision.card_id,
    decision.account_id, decision.outcome, decision.approved_amount, decision.currency,
    decision.decided_at, program.time_zone
FROM decision
LEFT JOIN program ON program.id = decision.program_id
WHERE decision.id = $1

-- name: lock_account
SELECT id, program_id, currency, state, posted, held, floor, shortfall, version
FROM account
WHERE id = $1
FOR NO KEY UPDATE

-- name: lock_windows
-- Wide owners before cards: a batch holds its wide owners when it writes the windows of its cards.
-- A negative version is an owner that does not count now, or whose count is not filled in yet.
SELECT owner_id, version, day_start, week_start, month_start, year_start,
    day_amount, week_amount, month_amount, year_amount, lifetime_amount,
    day_count, week_count, month_count, year_count, lifetime_count
FROM spend_window
WHERE owner_id = ANY ($1::uuid[])
ORDER BY owner_kind = 'card', owner_id
FOR NO KEY UPDATE

-- name: lock_hold
SELECT amount, captured, released, state, expires_at, recalled_at, statement_timestamp() AS now
FROM hold
WHERE id = $1
FOR NO KEY UPDATE

-- name: post
-- Everything one transfer changes, in one statement. The counts tell whether every row went where
-- it was expected; when one did not, the whole transaction is rolled back.
WITH transfers AS (
    INSERT INTO transfer (id, program_id, account_id, kind, layer, debit_account_id,
        credit_account_id, amount, currency, held_change, authorization_id, account_version,
        description, recorded_at)
    SELECT $1, system.program_id, $2, $3, $4,
        CASE WHEN $5::boolean THEN system.id ELSE $2 END,
        CASE WHEN $5::boolean THEN $2 ELSE system.id END,
        $6, system.currency, $7, $8, $9, $10, $11
    FROM system_account AS system
    WHERE system.program_id = $12 AND system.code = $13 AND system.currency = $14
    RETURNING id, program_id, account_id, account_version, recorded_at
), announced AS (
    INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
    SELECT $15, id, $16, program_id, account_id, account_version, recorded_at FROM transfers
    RETURNING 1
), accounts AS (
    UPDATE account SET posted = $17, held = $18, shortfall = $19, version = $9
    WHERE id = $2 AND version = $9 - 1
    RETURNING 1
), holds AS (
    UPDATE hold SET captured = $20, released = $21, state = $22,
        closed_at = CASE WHEN $22 <> 'active' THEN $11 END
    WHERE id = $8 AND state = 'active' AND amount - captured - released = $23
    RETURNING 1
), windows AS (
    UPDATE spend_window SET version = new.version_read + 1,
        day_amount = new.day_amount, week_amount = new.week_amount,
        month_amount = new.month_amount, year_amount = new.year_amount,
        lifetime_amount = new.lifetime_amount,
        day_count = new.day_count, week_count = new.week_count,
        month_count = new.month_count, year_count = new.year_count,
        lifetime_count = new.lifetime_count
    FROM unnest($24::uuid[], $25::bigint[],
            $26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[],
            $31::bigint[], $32::bigint[], $33::bigint[], $34::bigint[], $35::bigint[])
        AS new (owner_id, version_read,
            day_amount, week_amount, month_amount, year_amount, lifetime_amount,
            day_count, week_count, month_count, year_count, lifetime_count)
    WHERE spend_window.owner_id = new.owner_id AND spend_window.version = new.version_read
    RETURNING 1
)
SELECT (SELECT count(*) FROM transfers) AS transfers,
    (SELECT count(*) FROM announced) AS announced,
    (SELECT count(*) FROM accounts) AS accounts,
    (SELECT count(*) FROM holds) AS holds,
    (SELECT count(*) FROM windows) AS windows

-- name: due_holds
-- Holds whose time is over, by the database's clock, which is that of every gateway.
SELECT id, expires_at
FROM hold
WHERE state = 'active' AND expires_at <= statement_timestamp() AND (expires_at, id) > ($1, $2)
ORDER BY expires_at, id
LIMIT $3

-- name: take_lease
-- For the one that holds it already, or for anybody once it ran out. A new holder's token is
-- greater than every earlier one.
INSERT INTO lease AS held (name, holder, token, until)
VALUES ($1, $2, 1, clock_timestamp() + $3)
ON CONFLICT (name) DO UPDATE SET until = excluded.until, holder = excluded.holder,
    token = held.token + CASE WHEN held.holder = excluded.holder THEN 0 ELSE 1 END
    WHERE held.holder = excluded.holder OR held.until < clock_timestamp()
RETURNING token

-- name: leave_lease
UPDATE lease SET until = clock_timestamp() WHERE name = $1 AND holder = $2

-- name: key_pages
SELECT statement_timestamp() AS now,
    pg_relation_size('idempotency_key') / current_setting('block_size')::bigint AS pages

-- name: forget_keys
-- Of some pages of the table; a key and its answer go together. Its subject tells how old a key is.
WITH ended AS (
    DELETE FROM idempotency_key
    WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND subject < $3
    RETURNING scope, key
), forgotten AS (
    DELETE FROM answer USING ended WHERE answer.scope = ended.scope AND answer.key = ended.key
)
SELECT count(*) AS ended FROM ended
