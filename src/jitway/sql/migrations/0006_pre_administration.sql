-- Administration: keys with two secrets, lists by program, a trail that is searched, and funding
-- whose every line counts once, for good.

ALTER TABLE api_key
    ADD COLUMN name text,
    -- The secret before the last rotation, good until an instant.
    ADD COLUMN digest_before bytea CONSTRAINT api_key_before_is_unique UNIQUE,
    ADD COLUMN before_until timestamptz,
    ADD CONSTRAINT api_key_before_has_an_end
        CHECK ((digest_before IS NULL) = (before_until IS NULL));

-- Lists, newest first. No batch writes these two tables, so building an index holds up none.
CREATE INDEX cardholder_by_program ON cardholder (program_id, id);
CREATE INDEX card_by_program ON card (program_id, id);
CREATE INDEX audit_by_program ON audit (program_id, id);
CREATE INDEX audit_by_actor ON audit (actor, id);

-- What bulk funding has moved. Kept for good, unlike an idempotency key: a file may be sent again
-- after months, and must still change nothing.
CREATE TABLE funding_line (
    program_id  uuid  NOT NULL,
    -- Digests of sixteen bytes, of the line's own key and of what it asks.
    key         bytea NOT NULL,
    content     bytea NOT NULL,
    transfer_id uuid  NOT NULL,
    PRIMARY KEY (program_id, key)
);
