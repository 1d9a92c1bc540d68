-- Many lines of a file at once, of one program: at most two hundred, so that no transaction holds
-- the locks of more accounts than that. What the lines name is looked up one by one, each in its
-- index (LIMIT keeps it so): compared with every row of the program, it would take ever longer.

-- name: take_turn
-- One chunk of cards at a time in a program: two files that name the same cardholder make them, and
-- their account, once.
SELECT pg_advisory_xact_lock(hashtext('jitway bulk'), hashtext($1::text))

-- name: known_cards
SELECT known.*
FROM unnest($2::text[]) AS asked (external_id)
CROSS JOIN LATERAL (
    SELECT card.id, card.external_id, card.account_id, card.last4, card.cardholder_id,
        cardholder.external_id AS cardholder_external_id
    FROM card
    JOIN cardholder ON cardholder.id = card.cardholder_id
    WHERE card.program_id = $1 AND card.external_id = asked.external_id
    LIMIT 1
) AS known

-- name: cardholders
SELECT known.*
FROM unnest($2::text[]) AS asked (external_id)
CROSS JOIN LATERAL (
    SELECT id, external_id, state FROM cardholder
    WHERE program_id = $1 AND cardholder.external_id = asked.external_id
    LIMIT 1
) AS known
UNION
SELECT known.*
FROM unnest($3::uuid[]) AS asked (id)
CROSS JOIN LATERAL (
    SELECT cardholder.id, external_id, state FROM cardholder
    WHERE program_id = $1 AND cardholder.id = asked.id
    LIMIT 1
) AS known

-- name: accounts
-- Cardholders are asked for once they are known to be of the program, and so are their accounts.
SELECT known.*
FROM unnest($2::uuid[]) AS asked (id)
CROSS JOIN LATERAL (
    SELECT account.id, cardholder_id, currency, state FROM account
    WHERE account.id = asked.id AND program_id = $1
    LIMIT 1
) AS known
UNION
SELECT known.*
FROM unnest($3::uuid[]) AS asked (cardholder_id)
CROSS JOIN LATERAL (
    SELECT account.id, account.cardholder_id, currency, state FROM account
    WHERE account.cardholder_id = asked.cardholder_id
    LIMIT 1000
) AS known

-- name: lock_accounts
-- In everybody's order. A row lock returns the newest version of its row.
SELECT id, currency, state, posted, held, floor, shortfall, version
FROM account
WHERE program_id = $1 AND id = ANY ($2::uuid[])
ORDER BY id
FOR NO KEY UPDATE

-- name: insert_cardholders
INSERT INTO cardholder (id, program_id, external_id, name, created_at)
SELECT id, $1, external_id, name, $2
FROM unnest($3::uuid[], $4::text[], $5::text[]) AS new (id, external_id, name)
ON CONFLICT ON CONSTRAINT cardholder_external_id_is_unique DO NOTHING
RETURNING id

-- name: insert_accounts
INSERT INTO account (id, program_id, cardholder_id, currency, floor, created_at)
SELECT id, $1, cardholder_id, currency, -credit_line, $2
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::bigint[])
    AS new (id, cardholder_id, currency, credit_line)

-- name: insert_cards
-- Each with the window that counts what it spends, from birth.
WITH made AS (
    INSERT INTO card (id, program_id, cardholder_id, account_id, external_id, last4, created_at)
    SELECT id, $1, cardholder_id, account_id, external_id, last4, $2
    FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[])
        AS new (id, cardholder_id, account_id, external_id, last4)
    ON CONFLICT ON CONSTRAINT card_external_id_is_unique DO NOTHING
    RETURNING id, program_id
)
INSERT INTO spend_window (owner_id, owner_kind, program_id)
SELECT id, 'card', program_id FROM made
RETURNING owner_id

-- name: insert_audits
INSERT INTO audit (id, actor, action, program_id, subject, before, after, reason, recorded_at)
SELECT id, $1, action, $2, subject, before, after, $3, $4
FROM unnest($5::uuid[], $6::text[], $7::text[], $8::jsonb[], $9::jsonb[])
    AS new (id, action, subject, before, after)

-- name: announce_cards
INSERT INTO outbox (slot, id, type, program_id, account_id, occurred_at, body)
SELECT $1, id, 'card.created', $2, account_id, $3, body
FROM unnest($4::uuid[], $5::uuid[], $6::text[]) AS new (id, account_id, body)

-- name: accounts_of_cards
SELECT known.*
FROM unnest($2::text[]) AS asked (external_id)
CROSS JOIN LATERAL (
    SELECT card.external_id, account_id FROM card
    WHERE program_id = $1 AND card.external_id = asked.external_id
    LIMIT 1
) AS known

-- name: known_lines
SELECT key, content, transfer_id FROM funding_line
WHERE program_id = $1 AND key = ANY ($2::bytea[])

-- name: fund
-- Everything the deposits of a chunk change, in one statement. The counts tell whether every row
-- went where it was expected; when one did not, the whole transaction is rolled back.
WITH lines AS (
    INSERT INTO funding_line (program_id, key, content, transfer_id)
    SELECT $1, key, content, transfer_id
    FROM unnest($2::bytea[], $3::bytea[], $4::uuid[]) AS new (key, content, transfer_id)
    ORDER BY key
    ON CONFLICT DO NOTHING
    RETURNING 1
), transfers AS (
    INSERT INTO transfer (id, program_id, account_id, kind, layer, debit_account_id,
        credit_account_id, amount, currency, account_version, description, recorded_at)
    SELECT new.id, $1, new.account_id, 'deposit', 'posted', system.id, new.account_id, new.amount,
        new.currency, new.account_version, new.description, $5
    FROM unnest($4::uuid[], $6::uuid[], $7::bigint[], $8::text[], $9::bigint[], $10::text[])
        AS new (id, account_id, amount, currency, account_version, description)
    JOIN system_account AS system ON system.program_id = $1 AND system.currency = new.currency
        AND system.code = 'program_funding'
    RETURNING id, account_id, account_version
), announced AS (
    INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
    SELECT $11, id, $12, $1, account_id, account_version, $5
    FROM transfers
    ORDER BY account_id, account_version
    RETURNING 1
), accounts AS (
    UPDATE account SET posted = new.posted, shortfall = new.shortfall, version = new.version
    FROM unnest($13::uuid[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[])
        AS new (id, version_read, version, posted, shortfall)
    WHERE account.id = new.id AND account.version = new.version_read
    RETURNING 1
)
SELECT (SELECT count(*) FROM lines) AS lines,
    (SELECT count(*) FROM transfers) AS transfers,
    (SELECT count(*) FROM announced) AS announced,
    (SELECT count(*) FROM accounts) AS accounts
