-- Under which versions a decision was made, and what each stage took until it was written: beside the
-- explanation and not in it, which gateways of the release before read rule by rule. The row that a
-- batch writes is a type of its own for the same reason: theirs stays as it is.

ALTER TABLE decision ADD COLUMN circumstances text;

CREATE TYPE decided_row AS (
    scope           uuid,
    key             bytea,
    content         bytea,
    id              uuid,
    program_id      uuid,
    cardholder_id   uuid,
    card_id         uuid,
    account_id      uuid,
    reason          text,
    kind            text,
    amount          bigint,
    approved_amount bigint,
    currency        text,
    account_version bigint,
    body            text,
    request         text,
    explanation     text,
    circumstances   text
);
