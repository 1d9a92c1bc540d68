-- no-transaction
-- Built beside the batches, which write this table all the time. Neither column ever changes, so
-- updates of a balance stay in place.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_by_program ON account (program_id, id)
