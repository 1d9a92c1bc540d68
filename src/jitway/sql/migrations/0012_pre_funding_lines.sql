-- What bulk funding has moved, every line once. Kept for good, unlike an idempotency key: a file may be
-- sent again after months, and must still change nothing.
CREATE TABLE funding_line (
    program_id  uuid  NOT NULL,
    -- Digests of sixteen bytes, of the line's own key and of what it asks.
    key         bytea NOT NULL,
    content     bytea NOT NULL,
    transfer_id uuid  NOT NULL,
    PRIMARY KEY (program_id, key)
);
