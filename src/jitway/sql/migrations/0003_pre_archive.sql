-- The archive, when MongoDB is not configured: copies for people and audits, never read to decide.
-- All of it can be made again from the ledger (`jitway archive rebuild`).

-- `document` is what the API shows of the thing, without `_id` and `revision`; the other columns
-- are the parts of it that operators search by. Ids are ordered by time, and so is every search.
CREATE TABLE archive (
    collection    text        NOT NULL,
    id            uuid        NOT NULL,
    -- Grows with every change of the thing; what arrives late and older changes nothing.
    revision      bigint      NOT NULL,
    occurred_at   timestamptz NOT NULL,
    program_id    uuid,
    cardholder_id uuid,
    card_id       uuid,
    account_id    uuid,
    decision      text,
    reason        text,
    merchant      text,
    amount        bigint,
    document      jsonb       NOT NULL,
    PRIMARY KEY (collection, id)
) PARTITION BY LIST (collection);

-- An authorization changes a few times in its life, its searched columns almost never.
CREATE TABLE archive_authorizations PARTITION OF archive FOR VALUES IN ('authorizations')
    WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
CREATE TABLE archive_transactions PARTITION OF archive FOR VALUES IN ('transactions');
CREATE TABLE archive_webhooks PARTITION OF archive FOR VALUES IN ('webhooks');

-- Each question of an operator is answered newest first, page by page: hence the id in each index.
CREATE INDEX archive_authorizations_by_program ON archive_authorizations (program_id, id);
CREATE INDEX archive_authorizations_by_cardholder ON archive_authorizations (cardholder_id, id);
CREATE INDEX archive_authorizations_by_card ON archive_authorizations (card_id, id);
CREATE INDEX archive_authorizations_by_account ON archive_authorizations (account_id, id);
CREATE INDEX archive_authorizations_by_decision ON archive_authorizations (decision, id);
CREATE INDEX archive_authorizations_by_reason ON archive_authorizations (reason, id)
    WHERE reason IS NOT NULL;
CREATE INDEX archive_authorizations_by_merchant ON archive_authorizations (merchant, id)
    WHERE merchant IS NOT NULL;
CREATE INDEX archive_authorizations_by_amount ON archive_authorizations (amount, id);
CREATE INDEX archive_authorizations_by_instant ON archive_authorizations (occurred_at);

CREATE INDEX archive_transactions_by_program ON archive_transactions (program_id, id);
CREATE INDEX archive_transactions_by_cardholder ON archive_transactions (cardholder_id, id);
CREATE INDEX archive_transactions_by_card ON archive_transactions (card_id, id)
    WHERE card_id IS NOT NULL;
CREATE INDEX archive_transactions_by_account ON archive_transactions (account_id, id);
CREATE INDEX archive_transactions_by_merchant ON archive_transactions (merchant, id)
    WHERE merchant IS NOT NULL;
CREATE INDEX archive_transactions_by_amount ON archive_transactions (amount, id);
CREATE INDEX archive_transactions_by_instant ON archive_transactions (occurred_at);

CREATE INDEX archive_webhooks_by_program ON archive_webhooks (program_id, id);
CREATE INDEX archive_webhooks_by_instant ON archive_webhooks (occurred_at);
