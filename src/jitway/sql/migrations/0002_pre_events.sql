-- From the outbox to every reader: claims of the relay, deliveries without RabbitMQ, webhooks.

-- The outbox is published in the order in which it was written. A position is taken by a statement
-- that holds its account's lock, so the positions of one account are in the order of its versions.
-- They may have gaps, and become visible late: nobody reads "everything above the last one".
CREATE SEQUENCE outbox_position;
ALTER TABLE outbox ADD COLUMN position bigint;
UPDATE outbox SET position = written.position
FROM (
    SELECT slot, id, row_number() OVER (ORDER BY occurred_at, account_version NULLS LAST, id)
        AS position
    FROM outbox
) AS written
WHERE outbox.slot = written.slot AND outbox.id = written.id;
SELECT setval('outbox_position', coalesce(max(position), 0) + 1, false) FROM outbox;
ALTER TABLE outbox ALTER COLUMN position SET DEFAULT nextval('outbox_position'),
    ALTER COLUMN position SET NOT NULL;
-- A claim is one row of its own, so that claiming rewrites no event.
ALTER TABLE outbox DROP COLUMN attempts, DROP COLUMN lease_token, DROP COLUMN lease_until;
DROP INDEX outbox_waiting;
CREATE INDEX outbox_waiting ON outbox (position) WHERE published_at IS NULL;

-- Events that a relay is about to publish, or that are put off after a failure. Until it ends
-- nobody else claims them, nor later ones of the same accounts. A relay that was frozen meanwhile
-- finds its claim gone, and marks nothing.
CREATE SEQUENCE outbox_token;
CREATE TABLE outbox_claim (
    token    bigint      PRIMARY KEY,
    holder   text        NOT NULL,
    -- The holder's server process: when that is gone, so is the holder. None while put off.
    backend  integer,
    until    timestamptz NOT NULL,
    events   uuid[]      NOT NULL,
    accounts uuid[]      NOT NULL
);

-- Every queue that consumers read, ours and others', with RabbitMQ or without.
CREATE TABLE subscription (
    queue           text        PRIMARY KEY,
    -- As RabbitMQ reads them: `*` is one word of a routing key, `#` any number.
    binding_keys    text[]      NOT NULL,
    -- The same as regular expressions.
    patterns        text[]      NOT NULL,
    -- One per retry; the failure after the last one buries.
    retry_delays_ms integer[]   NOT NULL,
    declared_at     timestamptz NOT NULL
);

-- Without RabbitMQ: messages that a queue's consumers have not finished yet.
-- The same message may be here twice: a relay that died before it could say that it had published
-- is repeated. Consumers recognise the second by its id.
CREATE TABLE delivery (
    position        bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    queue           text        NOT NULL,
    id              text        NOT NULL,
    routing_key     text        NOT NULL,
    body            bytea       NOT NULL,
    -- Counted failures; the first is 1.
    attempts        integer     NOT NULL DEFAULT 0,
    -- Handed out so often without an end: its consumers die of it.
    handed_out      integer     NOT NULL DEFAULT 0,
    replays         integer     NOT NULL DEFAULT 0,
    history         jsonb       NOT NULL DEFAULT '[]',
    first_failed_at timestamptz,
    -- Nobody gets it before: it is being handled, or waits for its retry.
    due_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Of the handing out; whoever finishes it must know it.
    token           bigint
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX delivery_by_due ON delivery (queue, due_at, position);
CREATE SEQUENCE delivery_token;

CREATE TABLE dead_letter (
    position        bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    queue           text        NOT NULL,
    id              text        NOT NULL,
    routing_key     text        NOT NULL,
    body            bytea       NOT NULL,
    cause           text        NOT NULL,
    attempts        integer     NOT NULL,
    replays         integer     NOT NULL,
    history         jsonb       NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at  timestamptz NOT NULL
);
CREATE INDEX dead_letter_by_age ON dead_letter (queue, last_failed_at, position);
CREATE INDEX dead_letter_by_id ON dead_letter (queue, id);

-- What each consumer has applied, written in the transaction of its effect. Ids are ordered by
-- time, so what is older than anything that may still come is removed by its primary key.
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (consumer, event_id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- What a processor told us, redacted. Same id as its event.
CREATE TABLE webhook (
    id          uuid        PRIMARY KEY,
    program_id  uuid,
    -- Whose message ids they are: a program, or all zeros.
    scope       uuid        NOT NULL,
    source      text        NOT NULL,
    -- The sender's, or a digest of the bytes where it sent none.
    message_id  text        NOT NULL,
    -- Digest of the bytes as they were received.
    content     bytea       NOT NULL,
    payload     text        NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT webhook_is_received_once UNIQUE (scope, source, message_id)
);
CREATE INDEX webhook_by_age ON webhook USING brin (received_at);
