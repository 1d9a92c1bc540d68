-- Keys with a name and two secrets. Whoever shows a key waits until this file is committed, so there is
-- nothing else in it; the table is small.

ALTER TABLE api_key
    ADD COLUMN name text,
    -- The secret before the last rotation, good until an instant.
    ADD COLUMN digest_before bytea CONSTRAINT api_key_before_is_unique UNIQUE,
    ADD COLUMN before_until timestamptz,
    ADD CONSTRAINT api_key_before_has_an_end
        CHECK ((digest_before IS NULL) = (before_until IS NULL));
