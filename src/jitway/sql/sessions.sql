-- Logins of the live page. Time is PostgreSQL's, so that several gateways agree when one ends.

-- name: begin_session
-- What ended is swept on the way, and a key keeps its newest logins only: the table stays small.
WITH over AS (
    DELETE FROM session
    WHERE id IN (
        SELECT id FROM session WHERE expires_at <= statement_timestamp() ORDER BY expires_at LIMIT 100
    ) OR id IN (
        SELECT id FROM session WHERE key_id = $2 ORDER BY created_at DESC OFFSET $4
    )
)
INSERT INTO session (id, key_id, created_at, used_at, expires_at)
VALUES (
    $1, $2, statement_timestamp(), statement_timestamp(),
    statement_timestamp() + make_interval(secs => $3)
)
RETURNING expires_at

-- name: session
SELECT key_id, expires_at, used_at < statement_timestamp() - make_interval(secs => $3) AS is_due
FROM session
WHERE id = $1
    AND expires_at > statement_timestamp()
    AND used_at > statement_timestamp() - make_interval(secs => $2)

-- name: touch_session
UPDATE session SET used_at = statement_timestamp() WHERE id = $1

-- name: end_session
DELETE FROM session WHERE id = $1

-- name: session_key
SELECT id, program_id, scopes FROM api_key
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())

-- name: operator_keys
-- The newest first: a link is made for the one that was made last.
SELECT id, program_id, scopes FROM api_key
WHERE program_id IS NULL AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > statement_timestamp())
    AND scopes && ARRAY['authorize', 'read', 'operate']
ORDER BY scopes @> ARRAY['operate'] DESC, id DESC
LIMIT 1

-- name: insert_login_link
WITH over AS (
    DELETE FROM login_link WHERE digest IN (
        SELECT digest FROM login_link
        WHERE expires_at <= statement_timestamp() ORDER BY expires_at LIMIT 100
    )
)
INSERT INTO login_link (digest, key_id, expires_at)
VALUES ($1, $2, statement_timestamp() + make_interval(secs => $3))
RETURNING expires_at

-- name: take_login_link
-- Taken and forgotten in one statement: of two browsers one gets in.
DELETE FROM login_link WHERE digest = $1
RETURNING key_id, expires_at > statement_timestamp() AS is_good
