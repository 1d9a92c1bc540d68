-- What `gateway/alerts.py` says.

-- name: announce_alert
-- Said again when it is not known whether the first time stands: the id tells.
INSERT INTO outbox (slot, id, type, occurred_at, body)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING

-- name: count_dead_letters
SELECT count(*) AS dead FROM dead_letter
