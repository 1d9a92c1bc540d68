-- What PostgreSQL alone can do: one call decides one authorization and writes the rows that the
-- gateway writes for it. Its texts are constants of the length of a real answer's, which is kinder
-- to the ceiling than building them would be.

CREATE OR REPLACE FUNCTION bench_new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    -- Ordered by time like the gateway's; `uuidv7()` is not there before PostgreSQL 18.
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
        || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;

CREATE OR REPLACE FUNCTION bench_authorize(asked_card uuid, asked_amount bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    new_id uuid := bench_new_id();
    at timestamptz := statement_timestamp();
    seen record;
    funds record;
    spent record;
    today date;
    why text;
BEGIN
    SELECT card.account_id, card.program_id, card.cardholder_id, card.state AS card_state,
        cardholder.state AS cardholder_state, program.state AS program_state, program.time_zone,
        spend_control.controls
    INTO seen
    FROM card
    JOIN cardholder ON cardholder.id = card.cardholder_id
    JOIN program ON program.id = card.program_id
    LEFT JOIN spend_control ON spend_control.owner_id = card.id
    WHERE card.id = asked_card;

    SELECT posted, held, floor, version, state INTO funds
    FROM account WHERE id = seen.account_id FOR NO KEY UPDATE;

    SELECT * INTO spent FROM spend_window WHERE owner_id = asked_card;
    today := (at AT TIME ZONE seen.time_zone)::date;

    why := CASE
        WHEN seen.card_state <> 'active' THEN 'card_not_active'
        WHEN seen.cardholder_state <> 'active' OR seen.program_state <> 'active'
            OR funds.state <> 'active' THEN 'account_not_active'
        WHEN funds.posted - funds.held - funds.floor < asked_amount
            THEN 'insufficient_available_balance'
    END;

    INSERT INTO idempotency_key (scope, key, content, subject)
    VALUES ('00000000-0000-0000-0000-000000000000', uuid_send(gen_random_uuid()),
        uuid_send(gen_random_uuid()), new_id);

    INSERT INTO decision (id, scope, program_id, cardholder_id, card_id, account_id, outcome,
        reason, kind, amount, approved_amount, currency, account_version, place, decided_at,
        body, request, explanation)
    VALUES (new_id, '00000000-0000-0000-0000-000000000000', seen.program_id, seen.cardholder_id,
        asked_card, seen.account_id, CASE WHEN why IS NULL THEN 'approved' ELSE 'declined' END,
        why, 'purchase', asked_amount, CASE WHEN why IS NULL THEN asked_amount ELSE 0 END, 'USD',
        funds.version + (why IS NULL)::integer, 0, at,
        @body@, @request@, @explanation@);

    INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
    VALUES (extract(epoch FROM at)::bigint / 3600 % 4, new_id,
        CASE WHEN why IS NULL THEN 'jit-funding.approved' ELSE 'jit-funding.declined' END,
        seen.program_id, seen.account_id, funds.version + (why IS NULL)::integer, at);

    IF why IS NOT NULL THEN
        RETURN why;
    END IF;

    INSERT INTO hold (id, account_id, amount, expires_at)
    VALUES (new_id, seen.account_id, asked_amount, at + interval '7 days');

    UPDATE account SET held = held + asked_amount, version = version + 1
    WHERE id = seen.account_id;

    UPDATE spend_window SET version = version + 1,
        day_start = today,
        day_amount = CASE WHEN day_start = today THEN day_amount ELSE 0 END + asked_amount,
        day_count = CASE WHEN day_start = today THEN day_count ELSE 0 END + 1,
        week_start = date_trunc('week', today)::date,
        week_amount = CASE WHEN week_start = date_trunc('week', today)::date
            THEN week_amount ELSE 0 END + asked_amount,
        week_count = CASE WHEN week_start = date_trunc('week', today)::date
            THEN week_count ELSE 0 END + 1,
        month_start = date_trunc('month', today)::date,
        month_amount = CASE WHEN month_start = date_trunc('month', today)::date
            THEN month_amount ELSE 0 END + asked_amount,
        month_count = CASE WHEN month_start = date_trunc('month', today)::date
            THEN month_count ELSE 0 END + 1,
        year_start = date_trunc('year', today)::date,
        year_amount = CASE WHEN year_start = date_trunc('year', today)::date
            THEN year_amount ELSE 0 END + asked_amount,
        year_count = CASE WHEN year_start = date_trunc('year', today)::date
            THEN year_count ELSE 0 END + 1,
        lifetime_amount = lifetime_amount + asked_amount,
        lifetime_count = lifetime_count + 1
    WHERE owner_id = asked_card;
    RETURN 'approved';
END
$$;
