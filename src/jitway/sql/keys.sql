-- API keys. A secret is known by its digest only; during a rotation a key has two.

-- name: insert_key
INSERT INTO api_key (id, program_id, name, scopes, digest, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: key_by_digest
SELECT id, program_id, scopes FROM api_key
WHERE (digest = $1 OR (digest_before = $1 AND before_until > statement_timestamp()))
    AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())

-- name: key_ids
-- Newest first.
SELECT id FROM api_key
WHERE ($1::uuid IS NULL OR program_id = $1)
    AND ($2::text IS NULL OR $2 = CASE
        WHEN revoked_at IS NOT NULL THEN 'revoked'
        WHEN expires_at <= statement_timestamp() THEN 'expired'
        ELSE 'good' END)
    AND id < $3
ORDER BY id DESC LIMIT $4

-- name: keys
SELECT id, program_id, name, scopes, created_at, expires_at, revoked_at, before_until
FROM api_key
WHERE id = ANY ($1::uuid[])

-- name: all_keys
SELECT id, program_id, name, scopes, created_at, expires_at, revoked_at, before_until
FROM api_key
WHERE $1::uuid IS NULL OR program_id = $1
ORDER BY id

-- name: lock_key
SELECT id, program_id, name, scopes, created_at, expires_at, revoked_at, before_until,
    statement_timestamp() AS now
FROM api_key
WHERE id = $1
FOR NO KEY UPDATE

-- name: revoke_key
UPDATE api_key SET revoked_at = $2 WHERE id = $1

-- name: rotate_key
-- What was the secret stays good until an instant.
UPDATE api_key SET digest_before = digest, before_until = $3, digest = $2 WHERE id = $1
