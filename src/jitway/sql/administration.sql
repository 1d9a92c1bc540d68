-- Lists of programs, cardholders, accounts and cards, newest first, and changes of what they are.
-- A list names ids only. Each has a branch for every way to find them; of these only one is ever
-- executed, so that a plan made for all callers is right for each of them.

-- name: programs
SELECT id FROM program
WHERE ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR state = $2) AND id < $3
ORDER BY id DESC LIMIT $4

-- name: cardholders
(SELECT id FROM cardholder
    WHERE $1::uuid IS NOT NULL AND $2::text IS NOT NULL
        AND program_id = $1 AND external_id = $2
        AND ($3::text IS NULL OR state = $3) AND id < $4)
UNION ALL
(SELECT id FROM cardholder
    WHERE $1 IS NOT NULL AND $2 IS NULL
        AND program_id = $1
        AND ($3 IS NULL OR state = $3) AND id < $4
    ORDER BY id DESC LIMIT $5)
UNION ALL
(SELECT id FROM cardholder
    WHERE $1 IS NULL
        AND ($2 IS NULL OR external_id = $2) AND ($3 IS NULL OR state = $3) AND id < $4
    ORDER BY id DESC LIMIT $5)
ORDER BY id DESC LIMIT $5

-- name: accounts
(SELECT id FROM account
    WHERE $2::uuid IS NOT NULL AND cardholder_id = $2
        AND ($1::uuid IS NULL OR program_id = $1)
        AND ($3::text IS NULL OR currency = $3) AND ($4::text IS NULL OR state = $4) AND id < $5
    ORDER BY id DESC LIMIT $6)
UNION ALL
(SELECT id FROM account
    WHERE $2 IS NULL AND $1 IS NOT NULL AND program_id = $1
        AND ($3 IS NULL OR currency = $3) AND ($4 IS NULL OR state = $4) AND id < $5
    ORDER BY id DESC LIMIT $6)
UNION ALL
(SELECT id FROM account
    WHERE $2 IS NULL AND $1 IS NULL
        AND ($3 IS NULL OR currency = $3) AND ($4 IS NULL OR state = $4) AND id < $5
    ORDER BY id DESC LIMIT $6)
ORDER BY id DESC LIMIT $6

-- name: cards
(SELECT id FROM card
    WHERE $3::uuid IS NOT NULL AND account_id = $3
        AND ($1::uuid IS NULL OR program_id = $1) AND ($2::uuid IS NULL OR cardholder_id = $2)
        AND ($4::text IS NULL OR external_id = $4) AND ($5::text IS NULL OR state = $5) AND id < $6
    ORDER BY id DESC LIMIT $7)
UNION ALL
(SELECT id FROM card
    WHERE $3 IS NULL AND $2 IS NOT NULL AND cardholder_id = $2
        AND ($1 IS NULL OR program_id = $1)
        AND ($4 IS NULL OR external_id = $4) AND ($5 IS NULL OR state = $5) AND id < $6
    ORDER BY id DESC LIMIT $7)
UNION ALL
(SELECT id FROM card
    WHERE $3 IS NULL AND $2 IS NULL AND $1 IS NOT NULL AND $4 IS NOT NULL
        AND program_id = $1 AND external_id = $4 AND ($5 IS NULL OR state = $5) AND id < $6)
UNION ALL
(SELECT id FROM card
    WHERE $3 IS NULL AND $2 IS NULL AND $1 IS NOT NULL AND $4 IS NULL
        AND program_id = $1 AND ($5 IS NULL OR state = $5) AND id < $6
    ORDER BY id DESC LIMIT $7)
UNION ALL
(SELECT id FROM card
    WHERE $3 IS NULL AND $2 IS NULL AND $1 IS NULL
        AND ($4 IS NULL OR external_id = $4) AND ($5 IS NULL OR state = $5) AND id < $6
    ORDER BY id DESC LIMIT $7)
ORDER BY id DESC LIMIT $7

-- name: audit
(SELECT id, actor, action, program_id, subject, before, after, reason, recorded_at FROM audit
    WHERE $2::text IS NOT NULL AND subject = $2
        AND ($1::uuid IS NULL OR program_id = $1) AND ($3::text IS NULL OR actor = $3)
        AND ($4::text IS NULL OR action = $4)
        AND ($5::timestamptz IS NULL OR recorded_at >= $5)
        AND ($6::timestamptz IS NULL OR recorded_at < $6)
        AND id >= $7::uuid AND id < $8::uuid
    ORDER BY id DESC LIMIT $9)
UNION ALL
(SELECT id, actor, action, program_id, subject, before, after, reason, recorded_at FROM audit
    WHERE $2 IS NULL AND $3 IS NOT NULL AND actor = $3
        AND ($1 IS NULL OR program_id = $1) AND ($4 IS NULL OR action = $4)
        AND ($5 IS NULL OR recorded_at >= $5) AND ($6 IS NULL OR recorded_at < $6)
        AND id >= $7 AND id < $8
    ORDER BY id DESC LIMIT $9)
UNION ALL
(SELECT id, actor, action, program_id, subject, before, after, reason, recorded_at FROM audit
    WHERE $2 IS NULL AND $3 IS NULL AND $1 IS NOT NULL AND program_id = $1
        AND ($4 IS NULL OR action = $4)
        AND ($5 IS NULL OR recorded_at >= $5) AND ($6 IS NULL OR recorded_at < $6)
        AND id >= $7 AND id < $8
    ORDER BY id DESC LIMIT $9)
UNION ALL
(SELECT id, actor, action, program_id, subject, before, after, reason, recorded_at FROM audit
    WHERE $2 IS NULL AND $3 IS NULL AND $1 IS NULL
        AND ($4 IS NULL OR action = $4)
        AND ($5 IS NULL OR recorded_at >= $5) AND ($6 IS NULL OR recorded_at < $6)
        AND id >= $7 AND id < $8
    ORDER BY id DESC LIMIT $9)
ORDER BY id DESC LIMIT $9

-- name: lock_program
SELECT id FROM program WHERE id = $1 FOR NO KEY UPDATE

-- name: lock_cardholder
SELECT id FROM cardholder WHERE id = $1 FOR NO KEY UPDATE

-- name: program_state
UPDATE program SET state = $2, version = version + 1 WHERE id = $1

-- name: cardholder_state
UPDATE cardholder SET state = $2, version = version + 1 WHERE id = $1

-- name: account_state
-- Under the account's lock.
UPDATE account SET state = $2, version = version + 1 WHERE id = $1

-- name: account_floor
-- Under the account's lock. What the cut of a credit line leaves below the floor is shortfall.
UPDATE account SET floor = $2, shortfall = greatest(0, $2 - posted + held), version = version + 1
WHERE id = $1

-- name: rename_program
UPDATE program SET name = $2, version = version + 1 WHERE id = $1

-- name: change_cardholder
UPDATE cardholder SET external_id = $2, name = $3, version = version + 1 WHERE id = $1

-- name: change_card
-- After its account.
UPDATE card SET external_id = $2, last4 = $3, valid_from = $4, valid_until = $5,
    version = version + 1
WHERE id = $1

-- name: cardholder_named
SELECT id FROM cardholder WHERE program_id = $1 AND external_id = $2

-- name: card_named
SELECT id FROM card WHERE program_id = $1 AND external_id = $2

-- name: insert_audit
-- Names the version that the act made of an account; where it moved money, the transfer does.
INSERT INTO audit (id, actor, action, program_id, subject, before, after, reason, recorded_at,
    account_id, account_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
