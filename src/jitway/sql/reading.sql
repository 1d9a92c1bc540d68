-- What the API shows of things as they are, one or a page of them. Read outside any lock; never to
-- decide.

-- name: program
SELECT program.id, program.name, program.currency, program.time_zone, program.state,
    program.version, program.created_at, spend_control.controls
FROM program
LEFT JOIN spend_control ON spend_control.owner_id = program.id
WHERE program.id = ANY ($1::uuid[])

-- name: cardholder
SELECT cardholder.id, cardholder.program_id, cardholder.external_id, cardholder.name,
    cardholder.state, cardholder.version, cardholder.created_at, spend_control.controls
FROM cardholder
LEFT JOIN spend_control ON spend_control.owner_id = cardholder.id
WHERE cardholder.id = ANY ($1::uuid[])

-- name: account
SELECT id, program_id, cardholder_id, currency, state, posted, held, floor, shortfall, version,
    created_at
FROM account
WHERE id = ANY ($1::uuid[])

-- name: card
SELECT card.id, card.program_id, card.cardholder_id, card.account_id, card.external_id,
    card.last4, card.state, card.valid_from, card.valid_until, card.version, card.created_at,
    spend_control.controls
FROM card
LEFT JOIN spend_control ON spend_control.owner_id = card.id
WHERE card.id = ANY ($1::uuid[])

-- name: controls
-- One row for each owner, in the order asked: its controls, and what it has spent, of one moment.
SELECT asked.id, spend_control.controls, statement_timestamp() AS now,
    spent.version, spent.day_start, spent.week_start, spent.month_start, spent.year_start,
    spent.day_amount, spent.week_amount, spent.month_amount, spent.year_amount,
    spent.lifetime_amount,
    spent.day_count, spent.week_count, spent.month_count, spent.year_count, spent.lifetime_count
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place)
LEFT JOIN spend_control ON spend_control.owner_id = asked.id
LEFT JOIN spend_window AS spent ON spent.owner_id = asked.id
ORDER BY asked.place

-- name: authorization
SELECT decision.id, decision.program_id, decision.body, decision.explanation,
    hold.amount, hold.captured, hold.captured_beyond, hold.released, hold.state
FROM decision
LEFT JOIN hold ON hold.id = decision.id
WHERE decision.id = ANY ($1::uuid[])

-- name: authorizations
-- Newest first. An approval that was abandoned is shown, and found, as the decline it became.
-- A card's decisions are found by its account, which it keeps for good.
-- The bounds of the id follow from those of the instant, far enough apart for any clock.
SELECT decision.id, decision.program_id, decision.body,
    hold.amount, hold.captured, hold.captured_beyond, hold.released, hold.state
FROM decision
LEFT JOIN hold ON hold.id = decision.id
WHERE ($1::uuid IS NULL OR decision.program_id = $1)
    AND ($2::uuid IS NULL OR decision.card_id = $2)
    AND ($2::uuid IS NULL
        OR decision.account_id = (SELECT account_id FROM card WHERE card.id = $2))
    AND ($3::uuid IS NULL OR decision.account_id = $3)
    AND ($4::text IS NULL
        OR $4 = CASE WHEN hold.state = 'abandoned' THEN 'declined' ELSE decision.outcome END)
    AND ($5::text IS NULL
        OR $5 = CASE WHEN hold.state = 'abandoned' THEN 'abandoned' ELSE decision.reason END)
    AND ($6::timestamptz IS NULL OR decision.decided_at >= $6)
    AND ($7::timestamptz IS NULL OR decision.decided_at < $7)
    AND decision.id >= $8 AND decision.id < $9
ORDER BY decision.id DESC
LIMIT $10

