-- When a card may spend: from one instant until before another; null has no end. A gateway of the
-- release before does not look at it.

-- Not validated: every row there is has none, and looking would read the whole table under a lock
-- that authorizations wait for.
ALTER TABLE card
    ADD COLUMN valid_from timestamptz,
    ADD COLUMN valid_until timestamptz,
    ADD CONSTRAINT card_is_valid_for_a_while CHECK (valid_from < valid_until) NOT VALID;
