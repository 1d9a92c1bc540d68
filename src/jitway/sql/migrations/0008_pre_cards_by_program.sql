-- no-transaction
-- The list of a program's cards, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS card_by_program ON card (program_id, id)
