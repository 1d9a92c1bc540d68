-- The rows of a batch as its one writing statement takes them: three arrays instead of forty, so
-- that neither side takes every row apart and puts it together again.
-- A release that needs other columns adds types of its own: a gateway of the release before may
-- still be writing with these.

CREATE TYPE decision_row AS (
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
    explanation     text
);

CREATE TYPE account_change AS (
    id           uuid,
    version_read bigint,
    version      bigint,
    held_change  bigint
);

CREATE TYPE window_change AS (
    owner_id        uuid,
    version_read    bigint,
    day_start       date,
    week_start      date,
    month_start     date,
    year_start      date,
    day_amount      bigint,
    week_amount     bigint,
    month_amount    bigint,
    year_amount     bigint,
    lifetime_amount bigint,
    day_count       bigint,
    week_count      bigint,
    month_count     bigint,
    year_count      bigint,
    lifetime_count  bigint
);
