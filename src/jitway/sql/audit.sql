-- What must be true of the books. A `page_` names the rows of one snapshot; every other statement
-- gets them and returns a subject and a detail for each row that breaks its invariant.

-- name: page_accounts
SELECT id FROM account WHERE id > $1 ORDER BY id LIMIT $2

-- name: page_decisions
SELECT id FROM decision WHERE id > $1 ORDER BY id LIMIT $2

-- name: page_holds
SELECT id FROM hold WHERE id > $1 ORDER BY id LIMIT $2

-- name: page_transfers
SELECT id FROM transfer WHERE id > $1 ORDER BY id LIMIT $2

-- name: page_keys
SELECT scope, key FROM idempotency_key WHERE (scope, key) > ($1, $2) ORDER BY scope, key LIMIT $3

-- name: page_answers
SELECT scope, key FROM answer WHERE (scope, key) > ($1, $2) ORDER BY scope, key LIMIT $3

-- name: page_events
SELECT slot, id FROM outbox WHERE (slot, id) > ($1, $2) ORDER BY slot, id LIMIT $3

-- name: page_wide_owners
SELECT owner_id AS id FROM spend_window
WHERE owner_kind <> 'card' AND owner_id > $1
ORDER BY owner_id LIMIT $2

-- name: posted_equals_transfers
SELECT 'acc_' || replace(account.id::text, '-', '') AS subject,
    format('posted is %s, its transfers make %s', account.posted, moved.total) AS detail
FROM account
CROSS JOIN LATERAL (
    SELECT coalesce(sum(CASE WHEN credit_account_id = account.id THEN amount ELSE -amount END), 0)
        AS total
    FROM transfer
    WHERE account_id = account.id AND layer = 'posted'
) AS moved
WHERE account.id = ANY ($1::uuid[]) AND account.posted <> moved.total

-- name: held_equals_holds
SELECT 'acc_' || replace(account.id::text, '-', '') AS subject,
    format('held is %s, its holds reserve %s', account.held, reserved.total) AS detail
FROM account
CROSS JOIN LATERAL (
    SELECT coalesce(sum(hold.amount - hold.captured - hold.released), 0) AS total
    FROM decision
    JOIN hold ON hold.id = decision.id
    WHERE decision.account_id = account.id AND decision.outcome = 'approved'
) AS reserved
WHERE account.id = ANY ($1::uuid[]) AND account.held <> reserved.total

-- name: available_not_below_floor
SELECT 'acc_' || replace(id::text, '-', '') AS subject,
    format('posted %s - held %s + shortfall %s is below the floor %s', posted, held, shortfall,
        floor) AS detail
FROM account
WHERE id = ANY ($1::uuid[]) AND (posted - held + shortfall < floor OR shortfall < 0 OR held < 0)

-- name: versions_gapless
-- One version for each approval, transfer and audited change of an account.
SELECT 'acc_' || replace(account.id::text, '-', '') AS subject,
    format('version is %s, but %s changes made %s versions from %s to %s', account.version,
        changes.number, changes.versions, changes.least, changes.greatest) AS detail
FROM account
CROSS JOIN LATERAL (
    SELECT count(*) AS number, count(DISTINCT account_version) AS versions,
        coalesce(min(account_version), 1) AS least,
        coalesce(max(account_version), 0) AS greatest
    FROM (
        SELECT account_version FROM decision
        WHERE account_id = account.id AND outcome = 'approved' AND approved_amount > 0
        UNION ALL
        SELECT account_version FROM transfer WHERE account_id = account.id
        UNION ALL
        SELECT account_version FROM audit
        WHERE account_id = account.id AND account_version IS NOT NULL
    ) AS made
) AS changes
WHERE account.id = ANY ($1::uuid[])
    AND (changes.number, changes.versions, changes.least, changes.greatest)
        IS DISTINCT FROM (account.version, account.version, 1, account.version)

-- name: currency_matches
SELECT 'acc_' || replace(account.id::text, '-', '') AS subject,
    format('%s moved in an account of %s', other.currency, account.currency) AS detail
FROM account
CROSS JOIN LATERAL (
    SELECT currency FROM transfer
    WHERE account_id = account.id AND currency <> account.currency
    UNION
    SELECT currency FROM decision
    WHERE account_id = account.id AND outcome = 'approved' AND currency <> account.currency
) AS other
WHERE account.id = ANY ($1::uuid[])

-- name: card_windows
-- The windows to recompute; a card without one breaks the invariant by itself.
SELECT card.id, card.account_id, program.time_zone, spent.version,
    spent.day_start, spent.week_start, spent.month_start, spent.year_start,
    spent.day_amount, spent.week_amount, spent.month_amount, spent.year_amount,
    spent.lifetime_amount,
    spent.day_count, spent.week_count, spent.month_count, spent.year_count, spent.lifetime_count
FROM card
JOIN program ON program.id = card.program_id
LEFT JOIN spend_window AS spent ON spent.owner_id = card.id
WHERE card.account_id = ANY ($1::uuid[])

-- name: spent_by_decisions
-- What is held or captured of the approvals decided from one instant until before another.
SELECT window_.card_id,
    sum(decision.approved_amount - hold.released)
        FILTER (WHERE decided_at >= day_from AND decided_at < day_to) AS day_amount,
    sum(decision.approved_amount - hold.released)
        FILTER (WHERE decided_at >= week_from AND decided_at < week_to) AS week_amount,
    sum(decision.approved_amount - hold.released)
        FILTER (WHERE decided_at >= month_from AND decided_at < month_to) AS month_amount,
    sum(decision.approved_amount - hold.released)
        FILTER (WHERE decided_at >= year_from AND decided_at < year_to) AS year_amount,
    sum(decision.approved_amount - hold.released) AS lifetime_amount,
    count(*) FILTER (WHERE decided_at >= day_from AND decided_at < day_to
        AND hold.released < hold.amount) AS day_count,
    count(*) FILTER (WHERE decided_at >= week_from AND decided_at < week_to
        AND hold.released < hold.amount) AS week_count,
    count(*) FILTER (WHERE decided_at >= month_from AND decided_at < month_to
        AND hold.released < hold.amount) AS month_count,
    count(*) FILTER (WHERE decided_at >= year_from AND decided_at < year_to
        AND hold.released < hold.amount) AS year_count,
    count(*) FILTER (WHERE hold.released < hold.amount) AS lifetime_count
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
        $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[],
        $10::timestamptz[])
    AS window_ (card_id, account_id, day_from, day_to, week_from, week_to, month_from, month_to,
        year_from, year_to)
JOIN decision ON decision.account_id = window_.account_id AND decision.card_id = window_.card_id
    AND decision.outcome = 'approved'
JOIN hold ON hold.id = decision.id
GROUP BY window_.card_id

-- name: wide_windows_equal_cards
-- A negative version is one that does not count, or that is not filled in yet.
SELECT owner.owner_kind || ' ' || replace(owner.owner_id::text, '-', '') AS subject,
    format('counts %s, its cards count %s',
        (owner.day_amount, owner.day_count, owner.week_amount, owner.week_count,
            owner.month_amount, owner.month_count, owner.year_amount, owner.year_count,
            owner.lifetime_amount, owner.lifetime_count),
        spent) AS detail
FROM spend_window AS owner
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(day_amount) FILTER (WHERE day_start = owner.day_start), 0)::bigint,
        coalesce(sum(day_count) FILTER (WHERE day_start = owner.day_start), 0)::bigint,
        coalesce(sum(week_amount) FILTER (WHERE week_start = owner.week_start), 0)::bigint,
        coalesce(sum(week_count) FILTER (WHERE week_start = owner.week_start), 0)::bigint,
        coalesce(sum(month_amount) FILTER (WHERE month_start = owner.month_start), 0)::bigint,
        coalesce(sum(month_count) FILTER (WHERE month_start = owner.month_start), 0)::bigint,
        coalesce(sum(year_amount) FILTER (WHERE year_start = owner.year_start), 0)::bigint,
        coalesce(sum(year_count) FILTER (WHERE year_start = owner.year_start), 0)::bigint,
        coalesce(sum(lifetime_amount), 0)::bigint, coalesce(sum(lifetime_count), 0)::bigint
    FROM spend_window
    WHERE owner_id IN (
        SELECT id FROM card
        WHERE card.program_id = owner.program_id
            AND (owner.owner_kind = 'program' OR card.cardholder_id = owner.owner_id))
) AS spent
WHERE owner.owner_id = ANY ($1::uuid[]) AND owner.version >= 0
    AND (owner.day_amount, owner.day_count, owner.week_amount, owner.week_count,
        owner.month_amount, owner.month_count, owner.year_amount, owner.year_count,
        owner.lifetime_amount, owner.lifetime_count) IS DISTINCT FROM spent

-- name: one_hold_per_approval
SELECT 'aut_' || replace(decision.id::text, '-', '') AS subject,
    CASE WHEN hold.id IS NULL THEN 'approved, and has no hold'
        ELSE format('approved %s, and holds %s of account %s', decision.approved_amount,
            hold.amount, hold.account_id) END AS detail
FROM decision
LEFT JOIN hold ON hold.id = decision.id
WHERE decision.id = ANY ($1::uuid[]) AND decision.approved_amount > 0
    AND (hold.amount, hold.account_id)
        IS DISTINCT FROM (decision.approved_amount, decision.account_id)

-- name: decline_has_no_hold
SELECT 'aut_' || replace(decision.id::text, '-', '') AS subject,
    'nothing was approved, and it holds or moved funds' AS detail
FROM decision
WHERE id = ANY ($1::uuid[]) AND approved_amount = 0
    AND (EXISTS (SELECT FROM hold WHERE hold.id = decision.id)
        OR EXISTS (SELECT FROM transfer WHERE authorization_id = decision.id))

-- name: hold_is_accounted_for
-- What it captured and released is what its transfers say, and its state is what that comes to.
SELECT 'aut_' || replace(hold.id::text, '-', '') AS subject,
    format('%s: %s captured, %s released of %s; its transfers captured %s and ended %s of it',
        hold.state, hold.captured + hold.captured_beyond, hold.released, hold.amount,
        ended.captured, ended.held) AS detail
FROM hold
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE kind = 'capture'), 0) AS captured,
        coalesce(-sum(held_change), 0) AS held
    FROM transfer
    WHERE authorization_id = hold.id
) AS ended
WHERE hold.id = ANY ($1::uuid[])
    AND (ended.captured <> hold.captured + hold.captured_beyond
        OR ended.held <> hold.captured + hold.released
        OR (hold.state = 'active') <> (hold.captured + hold.released < hold.amount)
        OR (hold.state = 'captured')
            <> (hold.captured > 0 AND hold.captured + hold.released >= hold.amount))

-- name: hold_has_its_approval
SELECT 'aut_' || replace(hold.id::text, '-', '') AS subject,
    'holds funds without having been approved' AS detail
FROM hold
WHERE id = ANY ($1::uuid[])
    AND NOT EXISTS (
        SELECT FROM decision WHERE decision.id = hold.id AND decision.outcome = 'approved')

-- name: no_open_hold_past_expiry
SELECT 'aut_' || replace(id::text, '-', '') AS subject,
    format('should have expired at %s', expires_at) AS detail
FROM hold
WHERE id = ANY ($1::uuid[]) AND state = 'active'
    AND expires_at < statement_timestamp() - interval '60 seconds'

-- name: decision_knows_its_owners
SELECT 'aut_' || replace(decision.id::text, '-', '') AS subject,
    'names a program, card or account that is not there, or not of one program' AS detail
FROM decision
LEFT JOIN program ON program.id = decision.program_id
LEFT JOIN card ON card.id = decision.card_id
LEFT JOIN account ON account.id = decision.account_id
WHERE decision.id = ANY ($1::uuid[])
    AND ((decision.program_id IS NOT NULL AND program.id IS NULL)
        OR (decision.card_id IS NOT NULL
            AND (card.program_id IS DISTINCT FROM decision.program_id
                OR card.cardholder_id IS DISTINCT FROM decision.cardholder_id))
        OR (decision.account_id IS NOT NULL
            AND (account.program_id IS DISTINCT FROM decision.program_id
                OR decision.account_version NOT BETWEEN 0 AND account.version)))

-- name: explanation_agrees
-- An approval broke no rule and no headroom; a decline broke exactly the last one.
SELECT 'aut_' || replace(decision.id::text, '-', '') AS subject,
    format('%s, but %s rules were broken', outcome, rules.broken) AS detail
FROM decision
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE NOT (finding ->> 6)::boolean
            OR (finding ->> 5)::numeric < 0) AS broken,
        coalesce(bool_and((finding ->> 6)::boolean) FILTER (WHERE place = number), true)
            AS last_passed
    FROM jsonb_array_elements(explanation::jsonb) WITH ORDINALITY AS seen (finding, place)
    CROSS JOIN jsonb_array_length(explanation::jsonb) AS number
) AS rules
WHERE id = ANY ($1::uuid[])
    AND (rules.broken, rules.last_passed)
        IS DISTINCT FROM CASE WHEN outcome = 'approved' THEN (0::bigint, true)
            ELSE (1::bigint, false) END

-- name: approves_what_was_asked
-- All of the amount; or a part, where the explanation says which limit cut it; or nothing, where the
-- kind reserves nothing.
SELECT 'aut_' || replace(decision.id::text, '-', '') AS subject,
    format('approved %s of the %s asked, for a %s', approved_amount, amount, kind) AS detail
FROM decision
WHERE id = ANY ($1::uuid[]) AND outcome = 'approved'
    AND CASE
        WHEN kind IN ('account_verification', 'balance_inquiry') THEN approved_amount <> 0
        WHEN approved_amount = amount THEN amount = 0
        ELSE kind <> 'purchase' OR approved_amount = 0 OR NOT EXISTS (
            SELECT FROM jsonb_array_elements(explanation::jsonb) AS seen (finding)
            WHERE finding ->> 0 = 'partial_approval' AND finding ->> 3 = amount::text
                AND finding ->> 4 = approved_amount::text)
    END

-- name: one_event_per_decision
-- A missing event is only known of an hour whose slot is still kept: the current one, and that of
-- the oldest event of a slot, since drained slots are emptied as a whole once their hour is over.
WITH kept AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) / 3600) AS hour
    UNION
    SELECT floor(extract(epoch FROM (
        SELECT occurred_at FROM outbox WHERE outbox.slot = slots.slot ORDER BY id LIMIT 1
    )) / 3600)
    FROM generate_series(0, 3) AS slots (slot)
)
SELECT 'aut_' || replace(decision.id::text, '-', '') AS subject,
    format('announced %s times', events.number) AS detail
FROM decision
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM outbox
    WHERE slot = ANY ('{0,1,2,3}') AND outbox.id = decision.id
) AS events
WHERE decision.id = ANY ($1::uuid[])
    AND (events.number > 1 OR (events.number = 0
        AND floor(extract(epoch FROM decided_at) / 3600) IN (SELECT hour FROM kept)))

-- name: one_event_per_transfer
-- Missing ones as of decisions.
WITH kept AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) / 3600) AS hour
    UNION
    SELECT floor(extract(epoch FROM (
        SELECT occurred_at FROM outbox WHERE outbox.slot = slots.slot ORDER BY id LIMIT 1
    )) / 3600)
    FROM generate_series(0, 3) AS slots (slot)
)
SELECT 'trf_' || replace(transfer.id::text, '-', '') AS subject,
    format('announced %s times', events.number) AS detail
FROM transfer
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM outbox
    WHERE slot = ANY ('{0,1,2,3}') AND outbox.id = transfer.id
) AS events
WHERE transfer.id = ANY ($1::uuid[])
    AND (events.number > 1 OR (events.number = 0
        AND floor(extract(epoch FROM recorded_at) / 3600) IN (SELECT hour FROM kept)))

-- name: transfers_balance
-- One debit and one credit of equal amount: a funding account, and on the other side the system
-- account of its program that the chart of accounts names for this kind.
SELECT 'trf_' || replace(transfer.id::text, '-', '') AS subject,
    format('a %s of %s in %s, from %s to %s', transfer.kind, transfer.amount, transfer.layer,
        transfer.debit_account_id, transfer.credit_account_id) AS detail
FROM transfer
LEFT JOIN unnest($2::text[], $3::text[], $4::text[], $5::text[])
    AS chart (kind, layer, code, side) ON chart.kind = transfer.kind
LEFT JOIN account ON account.id = transfer.account_id
LEFT JOIN system_account AS system ON system.id = CASE chart.side
    WHEN 'credit' THEN transfer.debit_account_id ELSE transfer.credit_account_id END
WHERE transfer.id = ANY ($1::uuid[])
    AND (transfer.amount <= 0
        OR (transfer.layer, transfer.program_id, transfer.program_id, system.code, system.currency,
                CASE chart.side WHEN 'credit' THEN transfer.credit_account_id
                    ELSE transfer.debit_account_id END)
            IS DISTINCT FROM (chart.layer, account.program_id, system.program_id, chart.code,
                transfer.currency, transfer.account_id))

-- name: transfer_has_its_approval
SELECT 'trf_' || replace(transfer.id::text, '-', '') AS subject,
    format('a %s without an approval of its account', transfer.kind) AS detail
FROM transfer
LEFT JOIN decision ON decision.id = transfer.authorization_id AND decision.outcome = 'approved'
WHERE transfer.id = ANY ($1::uuid[])
    AND CASE WHEN transfer.kind IN ('deposit', 'withdrawal')
        THEN transfer.authorization_id IS NOT NULL OR transfer.held_change <> 0
        ELSE decision.account_id IS DISTINCT FROM transfer.account_id END

-- name: keys_point_to_subjects
SELECT format('key %s of %s', encode(known.key, 'hex'), known.scope) AS subject,
    'points to nothing that was made, or has no answer' AS detail
FROM unnest($1::uuid[], $2::bytea[]) AS page (scope, key)
JOIN idempotency_key AS known ON known.scope = page.scope AND known.key = page.key
WHERE NOT EXISTS (SELECT FROM decision WHERE decision.id = known.subject)
    AND NOT (EXISTS (
            SELECT FROM answer WHERE answer.scope = known.scope AND answer.key = known.key)
        AND (EXISTS (SELECT FROM transfer WHERE transfer.id = known.subject)
            OR EXISTS (SELECT FROM audit WHERE audit.id = known.subject)))

-- name: answers_have_keys
SELECT format('answer %s of %s', encode(page.key, 'hex'), page.scope) AS subject,
    'has no key that leads to it' AS detail
FROM unnest($1::uuid[], $2::bytea[]) AS page (scope, key)
WHERE NOT EXISTS (
    SELECT FROM idempotency_key AS known WHERE known.scope = page.scope AND known.key = page.key)

-- name: events_have_causes
SELECT 'evt_' || replace(page.id::text, '-', '') AS subject,
    'announces nothing that happened, or twice' AS detail
FROM unnest($1::smallint[], $2::uuid[]) AS page (slot, id)
WHERE NOT (EXISTS (SELECT FROM decision WHERE decision.id = page.id)
        OR EXISTS (SELECT FROM transfer WHERE transfer.id = page.id)
        OR EXISTS (SELECT FROM audit WHERE audit.id = page.id)
        OR EXISTS (SELECT FROM webhook WHERE webhook.id = page.id)
        -- An alert has no row elsewhere: it is the fact that it tells.
        OR EXISTS (
            SELECT FROM outbox
            WHERE outbox.slot = page.slot AND outbox.id = page.id
                AND outbox.type LIKE 'alert.%'))
    OR EXISTS (
        SELECT FROM outbox
        WHERE outbox.slot = ANY ('{0,1,2,3}') AND outbox.slot <> page.slot
            AND outbox.id = page.id)
