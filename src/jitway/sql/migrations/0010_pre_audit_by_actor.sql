-- no-transaction
-- What somebody did, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_by_actor ON audit (actor, id)
