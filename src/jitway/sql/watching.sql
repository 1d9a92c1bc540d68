-- What the live page shows of the ledger while somebody looks. Bounded, so that looking stays cheap.

-- name: queues
-- Only of a ledger that delivers by itself. Counted up to a bound; beyond it nobody needs to know.
SELECT subscription.queue,
    (SELECT count(*) FROM (
        SELECT FROM delivery WHERE delivery.queue = subscription.queue
            AND due_at <= clock_timestamp() LIMIT 10001) AS counted) AS depth,
    (SELECT count(*) FROM (
        SELECT FROM dead_letter WHERE dead_letter.queue = subscription.queue
        LIMIT 10001) AS counted) AS dead
FROM subscription
ORDER BY subscription.queue

-- name: subscribed
SELECT queue FROM subscription ORDER BY queue

-- name: open_holds
-- By age: the digits of an id begin with the instant at which it was made. Those that end first are
-- looked at first, which are the oldest wherever all holds live equally long.
SELECT
    count(*) FILTER (WHERE id >= $2) AS hour,
    count(*) FILTER (WHERE id >= $3 AND id < $2) AS day,
    count(*) FILTER (WHERE id >= $4 AND id < $3) AS three_days,
    count(*) FILTER (WHERE id >= $5 AND id < $4) AS week,
    count(*) FILTER (WHERE id < $5) AS older,
    count(*) AS counted
FROM (SELECT id FROM hold WHERE state = 'active' ORDER BY expires_at LIMIT $1) AS held
