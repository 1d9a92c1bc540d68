-- no-transaction
-- What was done in a program, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_by_program ON audit (program_id, id)
