-- no-transaction
-- The list of a program's cardholders, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS cardholder_by_program ON cardholder (program_id, id)
