-- Programs, cardholders, accounts, cards, and their controls.

-- name: insert_program
INSERT INTO program (id, name, currency, time_zone, created_at) VALUES ($1, $2, $3, $4, $5)

-- name: insert_system_accounts
-- The other side of every transfer of the program, one for each use and currency.
INSERT INTO system_account (id, program_id, code, currency)
SELECT id, $1, code, $2 FROM unnest($3::uuid[], $4::text[]) AS new (id, code)
ON CONFLICT ON CONSTRAINT system_account_is_one_per_code DO NOTHING

-- name: lock_program
SELECT id, currency, state FROM program WHERE id = $1 FOR NO KEY UPDATE

-- name: lock_cardholder
-- Its program is held still meanwhile: an account in another currency waits.
SELECT cardholder.id, cardholder.program_id, cardholder.state, program.currency
FROM cardholder
JOIN program ON program.id = cardholder.program_id
WHERE cardholder.id = $1
FOR NO KEY UPDATE OF cardholder FOR SHARE OF program

-- name: insert_cardholder
INSERT INTO cardholder (id, program_id, external_id, name, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT cardholder_external_id_is_unique DO NOTHING
RETURNING id

-- name: insert_account
INSERT INTO account (id, program_id, cardholder_id, currency, floor, created_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: wide_amount_limits
-- Whether a limit by amount spans several accounts of the program.
SELECT EXISTS (
    SELECT FROM spend_control
    WHERE program_id = $1 AND owner_kind <> 'card' AND controls @? '$.limits[*].amount'
) AS found

-- name: foreign_accounts
-- Whether the program has an account in another currency than its own.
SELECT EXISTS (SELECT FROM account WHERE program_id = $1 AND currency <> $2) AS found

-- name: insert_card
-- With the window that counts what it spends, from birth.
WITH made AS (
    INSERT INTO card (id, program_id, cardholder_id, account_id, external_id, last4, created_at,
        valid_from, valid_until)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT ON CONSTRAINT card_external_id_is_unique DO NOTHING
    RETURNING id, program_id
)
INSERT INTO spend_window (owner_id, owner_kind, program_id)
SELECT id, 'card', program_id FROM made
RETURNING owner_id

-- name: lock_card
-- After its account.
SELECT account_id, state FROM card WHERE id = $1 FOR NO KEY UPDATE

-- name: change_card_state
UPDATE card SET state = $2, version = version + 1 WHERE id = $1

-- name: put_controls
INSERT INTO spend_control (owner_id, owner_kind, program_id, controls, changed_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (owner_id) DO UPDATE SET controls = excluded.controls, changed_at = excluded.changed_at

-- name: counted_owner
SELECT spend_control.program_id, spend_control.controls, program.time_zone,
    statement_timestamp() AS now
FROM spend_control
JOIN program ON program.id = spend_control.program_id
WHERE spend_control.owner_id = $1

-- name: bump_card
UPDATE card SET version = version + 1 WHERE id = $1

-- name: bump_cardholder
UPDATE cardholder SET version = version + 1 WHERE id = $1

-- name: bump_program
UPDATE program SET version = version + 1 WHERE id = $1

-- name: lock_wide_window
SELECT version FROM spend_window WHERE owner_id = $1 FOR NO KEY UPDATE

-- name: insert_wide_window
-- Counted from now on; what was spent before is filled in once every older batch has ended.
INSERT INTO spend_window (owner_id, owner_kind, program_id, version) VALUES ($1, $2, $3, $4)

-- name: stop_counting
UPDATE spend_window SET version = $2 WHERE owner_id = $1

-- name: fill_window
-- Under the lock of the row that is filled, so nobody spends against it meanwhile. Every card's
-- own window is exact; one that rolled over has nothing in the current one.
WITH spent AS (
    SELECT
        coalesce(sum(day_amount) FILTER (WHERE day_start = $3), 0) AS day_amount,
        coalesce(sum(day_count) FILTER (WHERE day_start = $3), 0) AS day_count,
        coalesce(sum(week_amount) FILTER (WHERE week_start = $4), 0) AS week_amount,
        coalesce(sum(week_count) FILTER (WHERE week_start = $4), 0) AS week_count,
        coalesce(sum(month_amount) FILTER (WHERE month_start = $5), 0) AS month_amount,
        coalesce(sum(month_count) FILTER (WHERE month_start = $5), 0) AS month_count,
        coalesce(sum(year_amount) FILTER (WHERE year_start = $6), 0) AS year_amount,
        coalesce(sum(year_count) FILTER (WHERE year_start = $6), 0) AS year_count,
        coalesce(sum(lifetime_amount), 0) AS lifetime_amount,
        coalesce(sum(lifetime_count), 0) AS lifetime_count
    FROM spend_window
    WHERE owner_id IN (
        SELECT id FROM card WHERE program_id = $1 AND ($2::uuid IS NULL OR cardholder_id = $2))
)
UPDATE spend_window SET version = version + $7,
    day_start = $3, day_amount = spent.day_amount, day_count = spent.day_count,
    week_start = $4, week_amount = spent.week_amount, week_count = spent.week_count,
    month_start = $5, month_amount = spent.month_amount, month_count = spent.month_count,
    year_start = $6, year_amount = spent.year_amount, year_count = spent.year_count,
    lifetime_amount = spent.lifetime_amount, lifetime_count = spent.lifetime_count
FROM spent
WHERE owner_id = coalesce($2, $1)

-- name: unfilled_windows
SELECT spend_window.owner_id, spend_window.owner_kind, spend_control.controls
FROM spend_window
JOIN spend_control ON spend_control.owner_id = spend_window.owner_id
WHERE spend_window.owner_kind <> 'card' AND spend_window.version < 0

-- name: under_way
-- The numbers of all transactions of this database that have locked or written something. Whoever has
-- a number holds the lock of it. A snapshot would not do: its end is one above the latest that has
-- *ended*, so what began later and is still under way is above it; and it knows all databases of the
-- server, whose long transactions are none of our business. Locks show 32 bits of a number; the age
-- of one that is under way is less than that.
SELECT DISTINCT (newest - ((newest - held.transactionid::text::bigint) & 4294967295))::text
    AS number
FROM (SELECT pg_current_xact_id()::text::bigint AS newest) AS now
CROSS JOIN pg_locks AS held
LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
LEFT JOIN pg_database AS ours ON ours.datname = current_database()
WHERE held.locktype = 'transactionid' AND held.mode = 'ExclusiveLock' AND held.granted
    AND held.pid <> pg_backend_pid()
    AND (activity.datid IS NULL OR activity.datid = ours.oid)

-- name: have_ended
SELECT NOT EXISTS (
    SELECT FROM unnest($1::text[]) AS asked (number)
    WHERE pg_xact_status(asked.number::xid8) = 'in progress'
) AS ended

-- name: announce
-- Carries its body: what it tells of can change.
INSERT INTO outbox (slot, id, type, program_id, account_id, occurred_at, body)
VALUES ($1, $2, $3, $4, $5, $6, $7)
