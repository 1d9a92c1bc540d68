-- The archive: from the ledger's rows to documents, and their keeping where MongoDB is not.

-- name: ledger_authorizations
-- As they are at this instant. Every change of one is a change of its account, so the last
-- version that it made there says how new this is.
SELECT decision.id, decision.program_id, decision.cardholder_id, decision.card_id, decision.kind,
    decision.request, decision.body, decision.explanation, decision.circumstances,
    hold.amount, hold.captured, hold.captured_beyond, hold.released, hold.state,
    greatest(coalesce(decision.account_version, 0), coalesce((
        SELECT max(transfer.account_version) FROM transfer
        WHERE transfer.authorization_id = decision.id), 0)) AS revision
FROM decision
LEFT JOIN hold ON hold.id = decision.id
WHERE decision.id = ANY ($1::uuid[])

-- name: ledger_transactions
SELECT transfer.id, transfer.program_id, transfer.account_id, transfer.kind, transfer.layer,
    transfer.amount, transfer.currency, transfer.held_change, transfer.authorization_id,
    transfer.account_version, transfer.description, transfer.recorded_at,
    transfer.credit_account_id = transfer.account_id AS is_credit,
    decision.card_id, decision.request,
    coalesce(decision.cardholder_id, account.cardholder_id) AS cardholder_id
FROM transfer
LEFT JOIN decision ON decision.id = transfer.authorization_id
LEFT JOIN account ON account.id = transfer.account_id
WHERE transfer.id = ANY ($1::uuid[])

-- name: ledger_webhooks
SELECT id, program_id, source, message_id, payload, received_at
FROM webhook
WHERE id = ANY ($1::uuid[])

-- name: authorizations_after
SELECT id FROM decision WHERE id > $1 ORDER BY id LIMIT $2

-- name: transactions_after
SELECT id FROM transfer WHERE id > $1 ORDER BY id LIMIT $2

-- name: webhooks_after
SELECT id FROM webhook WHERE id > $1 ORDER BY id LIMIT $2

-- name: authorizations_between
SELECT id FROM decision WHERE id > $1 AND id <= $2 ORDER BY id

-- name: transactions_between
SELECT id FROM transfer WHERE id > $1 AND id <= $2 ORDER BY id

-- name: webhooks_between
SELECT id FROM webhook WHERE id > $1 AND id <= $2 ORDER BY id

-- Kept in PostgreSQL ------------------------------------------------------------------------------

-- name: put_many
-- The newest of a thing stays. Sorted, so that two writers of the same documents cannot deadlock.
INSERT INTO archive (collection, id, revision, occurred_at, program_id, cardholder_id, card_id,
    account_id, decision, reason, merchant, amount, document)
SELECT $1, put.id, put.revision, put.occurred_at, put.program_id, put.cardholder_id, put.card_id,
    put.account_id, put.decision, put.reason, put.merchant, put.amount, put.document
FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[], $5::uuid[], $6::uuid[], $7::uuid[],
    $8::uuid[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::jsonb[])
    AS put (id, revision, occurred_at, program_id, cardholder_id, card_id, account_id, decision,
        reason, merchant, amount, document)
ORDER BY put.id
ON CONFLICT (collection, id) DO UPDATE SET revision = excluded.revision,
    occurred_at = excluded.occurred_at, program_id = excluded.program_id,
    cardholder_id = excluded.cardholder_id, card_id = excluded.card_id,
    account_id = excluded.account_id, decision = excluded.decision, reason = excluded.reason,
    merchant = excluded.merchant, amount = excluded.amount, document = excluded.document
WHERE archive.revision < excluded.revision
RETURNING id

-- name: plan_for_these_values
-- A plan for any values would not know whether few or many documents match.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true)

-- name: search
SELECT id, revision, document
FROM archive
WHERE collection = $1 AND id < $2 AND id >= $3
    AND ($4::uuid IS NULL OR program_id = $4)
    AND ($5::uuid IS NULL OR cardholder_id = $5)
    AND ($6::uuid IS NULL OR card_id = $6)
    AND ($7::uuid IS NULL OR account_id = $7)
    AND ($8::text IS NULL OR decision = $8)
    AND ($9::text IS NULL OR reason = $9)
    AND ($10::text IS NULL OR merchant = $10)
    AND ($11::bigint IS NULL OR amount >= $11)
    AND ($12::bigint IS NULL OR amount <= $12)
    AND ($13::timestamptz IS NULL OR occurred_at >= $13)
    AND ($14::timestamptz IS NULL OR occurred_at < $14)
ORDER BY id DESC
LIMIT $15

-- name: after
SELECT id, revision, document
FROM archive
WHERE collection = $1 AND id > $2
ORDER BY id
LIMIT $3

-- name: remove
-- Only as they were read.
DELETE FROM archive
USING unnest($2::uuid[], $3::bigint[]) AS read (id, revision)
WHERE archive.collection = $1 AND archive.id = read.id AND archive.revision = read.revision
RETURNING archive.id

-- name: purge
DELETE FROM archive
WHERE collection = $1 AND id IN (
    SELECT id FROM archive WHERE collection = $1 AND id < $2 ORDER BY id LIMIT $3)
RETURNING id

-- name: is_there
SELECT to_regclass('archive') IS NOT NULL AS is_there
