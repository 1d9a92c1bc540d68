-- name: ledger_identity
-- What tells this ledger from every other: a copy of its rows elsewhere, another in one server, and
-- itself on another timeline, whose versions may mean something else.
SELECT control.system_identifier::text AS system, checkpoint.timeline_id AS timeline,
    current_database()::text AS database, current_schema()::text AS schema,
    (SELECT extract(epoch FROM min(applied_at))::text FROM schema_migrations) AS born_at
FROM pg_control_system() AS control, pg_control_checkpoint() AS checkpoint
