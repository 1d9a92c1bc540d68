-- From the outbox to the consumers. Nothing here locks what a decision needs.

-- name: is_anything_waiting
SELECT EXISTS (SELECT FROM outbox WHERE published_at IS NULL) AS waiting

-- name: take_turn
-- Claims are made one after the other, or two relays could share out one account between them.
SELECT nextval('outbox_token') AS token,
    pg_advisory_xact_lock(hashtext('jitway outbox'), hashtext(current_schema()))

-- name: end_old_claims
-- Whose lease ran out, or whose holder is known to be dead, its connection being gone. A statement
-- of its own: it may wait for a relay that marks at this moment, and what was marked must be seen
-- by the next one.
DELETE FROM outbox_claim
WHERE until <= clock_timestamp()
    OR (backend IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_stat_get_activity(outbox_claim.backend)))

-- name: claim
-- The oldest events that nobody has claimed, none of them behind an earlier one of its account.
-- How far is looked past what others have is bounded.
WITH taken AS MATERIALIZED (
    SELECT unnest(events) AS id FROM outbox_claim
), busy AS MATERIALIZED (
    SELECT unnest(accounts) AS account_id FROM outbox_claim
), chosen AS MATERIALIZED (
    SELECT * FROM (
        SELECT position, slot, id, type, program_id, account_id, account_version, occurred_at, body
        FROM outbox
        WHERE published_at IS NULL
        ORDER BY position
        LIMIT $4
    ) AS oldest
    WHERE id NOT IN (SELECT id FROM taken)
        AND (account_id IS NULL OR account_id NOT IN (SELECT account_id FROM busy))
    ORDER BY position
    LIMIT $5
), noted AS (
    INSERT INTO outbox_claim (token, holder, backend, until, events, accounts)
    SELECT $1, $2, pg_backend_pid(), clock_timestamp() + $3, array_agg(id),
        coalesce(array_agg(DISTINCT account_id) FILTER (WHERE account_id IS NOT NULL), '{}')
    FROM chosen
    HAVING count(*) > 0
)
SELECT slot, id, type, program_id, account_id, account_version, occurred_at, body
FROM chosen
ORDER BY position

-- name: decided
SELECT id, body FROM decision WHERE id = ANY ($1::uuid[])

-- name: transferred
SELECT id, kind, authorization_id, account_id, amount, currency, account_version, recorded_at,
    description
FROM transfer WHERE id = ANY ($1::uuid[])

-- name: mark_published
-- Only as long as the claim stands. It is locked meanwhile, so that whoever wants to end it waits.
WITH standing AS (
    SELECT token FROM outbox_claim WHERE token = $1 FOR UPDATE
)
UPDATE outbox SET published_at = statement_timestamp()
FROM standing, unnest($2::smallint[], $3::uuid[]) AS done (slot, id)
WHERE outbox.slot = done.slot AND outbox.id = done.id AND outbox.published_at IS NULL
RETURNING outbox.id

-- name: put_off
-- What failed, and what stands behind it, is nobody's for a while.
UPDATE outbox_claim SET backend = NULL, until = clock_timestamp() + $2, events = $3,
    accounts = $4
WHERE token = $1

-- name: release_claim
DELETE FROM outbox_claim WHERE token = $1

-- name: depth_and_lag
-- Counted up to a bound; beyond it nobody needs to know how much.
SELECT
    (SELECT count(*) FROM (
        SELECT FROM outbox WHERE published_at IS NULL LIMIT $1) AS counted) AS depth,
    coalesce(extract(epoch FROM clock_timestamp() - (
        SELECT occurred_at FROM outbox WHERE published_at IS NULL ORDER BY position LIMIT 1)), 0)
        ::float8 AS lag_s

-- name: drained_slot
-- The slot of two hours ago, if it holds something and all of it is published. Nobody writes to
-- it any more, and nobody yet: the hours before and after the current one are left alone.
SELECT hours.slot
FROM (SELECT (floor(extract(epoch FROM clock_timestamp()) / 3600)::bigint + 2) % 4) AS hours (slot)
WHERE EXISTS (SELECT FROM outbox WHERE outbox.slot = hours.slot)
    AND NOT EXISTS (
        SELECT FROM outbox WHERE outbox.slot = hours.slot AND published_at IS NULL)
    AND (
        SELECT occurred_at FROM outbox WHERE outbox.slot = hours.slot ORDER BY id DESC LIMIT 1
    ) < clock_timestamp() - interval '1 hour'

-- name: lock_slot_0
LOCK TABLE outbox_0 IN ACCESS EXCLUSIVE MODE

-- name: lock_slot_1
LOCK TABLE outbox_1 IN ACCESS EXCLUSIVE MODE

-- name: lock_slot_2
LOCK TABLE outbox_2 IN ACCESS EXCLUSIVE MODE

-- name: lock_slot_3
LOCK TABLE outbox_3 IN ACCESS EXCLUSIVE MODE

-- name: truncate_slot_0
TRUNCATE outbox_0

-- name: truncate_slot_1
TRUNCATE outbox_1

-- name: truncate_slot_2
TRUNCATE outbox_2

-- name: truncate_slot_3
TRUNCATE outbox_3

-- Delivery without RabbitMQ ---------------------------------------------------------------------

-- name: declare_subscription
INSERT INTO subscription (queue, binding_keys, patterns, retry_delays_ms, declared_at)
VALUES ($1, $2, $3, $4, statement_timestamp())
ON CONFLICT (queue) DO UPDATE SET binding_keys = excluded.binding_keys,
    patterns = excluded.patterns, retry_delays_ms = excluded.retry_delays_ms
WHERE (subscription.binding_keys, subscription.retry_delays_ms)
    IS DISTINCT FROM (excluded.binding_keys, excluded.retry_delays_ms)

-- name: subscriptions
SELECT queue, binding_keys, retry_delays_ms FROM subscription ORDER BY queue

-- name: deliver
-- One row for each queue that takes a message, in the order of the messages. One that no queue
-- takes, and needs one, keeps back what comes after it in its line; those are returned.
WITH arrived AS MATERIALIZED (
    SELECT place, id, routing_key, body, needs_reader, line
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::boolean[], $5::bigint[])
        WITH ORDINALITY AS arrived (id, routing_key, body, needs_reader, line, place)
), bound AS MATERIALIZED (
    SELECT arrived.place, subscription.queue
    FROM arrived
    JOIN subscription ON '.' || arrived.routing_key ~ ANY (subscription.patterns)
), refused AS MATERIALIZED (
    SELECT line, min(place) AS place
    FROM arrived
    WHERE needs_reader AND place NOT IN (SELECT place FROM bound)
    GROUP BY line
), delivered AS (
    INSERT INTO delivery (queue, id, routing_key, body)
    SELECT bound.queue, arrived.id, arrived.routing_key, arrived.body
    FROM bound
    JOIN arrived ON arrived.place = bound.place
    LEFT JOIN refused ON refused.line = arrived.line
    WHERE refused.place IS NULL OR arrived.place < refused.place
    ORDER BY arrived.place, bound.queue
)
SELECT line, place FROM refused

-- name: hand_out
-- The longest due, which nobody else is at. Until `due_at` they are the consumer's own.
WITH due AS MATERIALIZED (
    SELECT position
    FROM delivery
    WHERE queue = $1 AND due_at <= clock_timestamp()
    ORDER BY due_at, position
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), taken AS MATERIALIZED (
    SELECT nextval('delivery_token') AS token
), handed AS (
    UPDATE delivery SET due_at = clock_timestamp() + $3, token = taken.token,
        handed_out = handed_out + 1
    FROM due, taken
    WHERE delivery.position = due.position
    RETURNING delivery.position, id, routing_key, body, attempts, handed_out, replays, history,
        first_failed_at, delivery.token
)
SELECT * FROM handed ORDER BY position

-- name: keep_handed_out
-- What is still being handled stays with its consumer.
UPDATE delivery SET due_at = clock_timestamp() + $1
FROM unnest($2::bigint[], $3::bigint[]) AS held (position, token)
WHERE delivery.position = held.position AND delivery.token = held.token

-- name: finish_deliveries
DELETE FROM delivery
USING unnest($1::bigint[], $2::bigint[]) AS done (position, token)
WHERE delivery.position = done.position AND delivery.token = done.token

-- name: give_back_deliveries
-- As if they had never been handed out.
UPDATE delivery SET due_at = clock_timestamp(), token = NULL, handed_out = handed_out - 1
FROM unnest($1::bigint[], $2::bigint[]) AS held (position, token)
WHERE delivery.position = held.position AND delivery.token = held.token

-- name: retry_delivery
UPDATE delivery SET due_at = clock_timestamp() + $3, token = NULL, handed_out = 0,
    attempts = $4, history = $5, first_failed_at = coalesce(first_failed_at, $6)
WHERE position = $1 AND token = $2

-- name: bury_delivery
WITH failed AS (
    DELETE FROM delivery WHERE position = $1 AND token = $2
    RETURNING queue, id, routing_key, body, replays, first_failed_at
)
INSERT INTO dead_letter (queue, id, routing_key, body, cause, attempts, replays, history,
    first_failed_at, last_failed_at)
SELECT queue, id, routing_key, body, $3, $4, replays, $5, coalesce(first_failed_at, $6), $6
FROM failed

-- name: is_anything_delivered
SELECT EXISTS (SELECT FROM delivery WHERE queue = $1) AS found

-- name: queue_depth
SELECT (SELECT count(*) FROM delivery WHERE queue = $1 AND due_at <= clock_timestamp()) AS depth
FROM subscription WHERE queue = $1

-- name: dead_letters
SELECT queue, id, routing_key, body, cause, attempts, replays, history, first_failed_at,
    last_failed_at
FROM dead_letter WHERE queue = $1
ORDER BY last_failed_at, position
LIMIT $2

-- name: replay_dead_letter
WITH oldest AS (
    SELECT position FROM dead_letter WHERE queue = $1 AND id = $2
    ORDER BY position LIMIT 1
    FOR UPDATE
), taken AS (
    DELETE FROM dead_letter USING oldest WHERE dead_letter.position = oldest.position
    RETURNING queue, id, routing_key, body, cause, attempts, replays, history, first_failed_at,
        last_failed_at
), sent_back AS (
    INSERT INTO delivery (queue, id, routing_key, body, replays, history, first_failed_at)
    SELECT queue, id, routing_key, body, replays + 1, history, first_failed_at FROM taken
)
SELECT * FROM taken

-- name: discard_dead_letter
WITH oldest AS (
    SELECT position FROM dead_letter WHERE queue = $1 AND id = $2
    ORDER BY position LIMIT 1
    FOR UPDATE
)
DELETE FROM dead_letter USING oldest WHERE dead_letter.position = oldest.position
RETURNING queue, id, routing_key, body, cause, attempts, replays, history, first_failed_at,
    last_failed_at

-- Applied once ------------------------------------------------------------------------------------

-- name: apply_once
-- In the transaction of the effect. Sorted, so that two consumers of one queue cannot deadlock;
-- one that is being applied elsewhere at this moment is waited for.
INSERT INTO inbox (consumer, event_id)
SELECT $1, event_id FROM unnest($2::uuid[]) AS arrived (event_id)
ORDER BY event_id
ON CONFLICT DO NOTHING
RETURNING event_id

-- name: forget_applied
-- By the order of their ids, which is that of time.
DELETE FROM inbox
WHERE (consumer, event_id) IN (
    SELECT consumer, event_id FROM inbox
    WHERE consumer = $1 AND event_id < $2
    ORDER BY event_id LIMIT $3)
RETURNING event_id

-- name: audit_dead_letter
INSERT INTO audit (id, actor, action, program_id, subject, before, reason, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- What comes in by message or webhook --------------------------------------------------------------

-- name: currency_of_card
SELECT account.currency FROM card JOIN account ON account.id = card.account_id WHERE card.id = $1

-- name: receive_webhook
-- Nothing when the source has sent a message of this id before.
WITH received AS (
    INSERT INTO webhook (id, program_id, scope, source, message_id, content, payload, received_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT ON CONSTRAINT webhook_is_received_once DO NOTHING
    RETURNING id, program_id, received_at
), announced AS (
    INSERT INTO outbox (slot, id, type, program_id, occurred_at, body)
    SELECT $9, id, 'webhook.received', program_id, received_at, $10 FROM received
)
SELECT id FROM received

-- name: received_webhook
SELECT id, program_id, source, message_id, content, payload, received_at FROM webhook
WHERE scope = $1 AND source = $2 AND message_id = $3
