-- Why something was decided, and what became of it. Read outside any lock; never to decide.

-- name: explained
-- One statement, so that status and transfers are of one moment: a row for each transfer, or one.
SELECT decision.id, decision.program_id, decision.body, decision.explanation,
    decision.circumstances,
    decision.approved_amount, hold.amount, hold.captured, hold.captured_beyond, hold.released,
    hold.state, hold.expires_at, hold.closed_at,
    transfer.id AS transfer_id, transfer.kind, transfer.account_id,
    transfer.amount AS transfer_amount, transfer.currency, transfer.account_version,
    transfer.recorded_at, transfer.description
FROM decision
LEFT JOIN hold ON hold.id = decision.id
LEFT JOIN transfer ON transfer.authorization_id = decision.id
WHERE decision.id = $1
ORDER BY transfer.account_version
