-- Cards that pay, made in one statement each. Ids are counted, so that a load script can name the
-- n-th card without asking: @prefix@ and n in twelve hexadecimal digits.

INSERT INTO program (id, name, currency, time_zone, created_at)
VALUES ('@prefix@00000000a000', 'Benchmark', 'USD', 'America/New_York', now());

INSERT INTO system_account (id, program_id, code, currency)
SELECT ('@prefix@00000000b' || lpad(to_hex(place), 3, '0'))::uuid, '@prefix@00000000a000', code, 'USD'
FROM unnest(ARRAY['program_funding', 'network_settlement', 'fees', 'disputes', 'fx'])
    WITH ORDINALITY AS chart (code, place);

CREATE TEMPORARY TABLE made AS
SELECT ('@prefix@1' || lpad(to_hex(n), 11, '0'))::uuid AS cardholder_id,
    ('@prefix@2' || lpad(to_hex(n), 11, '0'))::uuid AS account_id,
    ('@prefix@3' || lpad(to_hex(n), 11, '0'))::uuid AS transfer_id,
    ('@prefix@0' || lpad(to_hex(n), 11, '0'))::uuid AS card_id
FROM generate_series(65536, 65535 + @cards@) AS n;

INSERT INTO cardholder (id, program_id, created_at)
SELECT cardholder_id, '@prefix@00000000a000', now() FROM made;

INSERT INTO account (id, program_id, cardholder_id, currency, posted, version, created_at)
SELECT account_id, '@prefix@00000000a000', cardholder_id, 'USD', 100000000000, 1, now() FROM made;

INSERT INTO transfer (id, program_id, account_id, kind, layer, debit_account_id, credit_account_id,
    amount, currency, account_version, recorded_at)
SELECT transfer_id, '@prefix@00000000a000', account_id, 'deposit', 'posted', '@prefix@00000000b001',
    account_id, 100000000000, 'USD', 1, now()
FROM made;

INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
SELECT floor(extract(epoch FROM now()) / 3600)::bigint % 4, transfer_id, 'transaction.deposited',
    '@prefix@00000000a000', account_id, 1, now()
FROM made;

INSERT INTO card (id, program_id, cardholder_id, account_id, created_at)
SELECT card_id, '@prefix@00000000a000', cardholder_id, account_id, now() FROM made;

INSERT INTO spend_window (owner_id, owner_kind, program_id)
SELECT card_id, 'card', '@prefix@00000000a000' FROM made;

-- As many controls as an ordinary program has.
INSERT INTO spend_control (owner_id, owner_kind, program_id, controls, changed_at)
SELECT card_id, 'card', '@prefix@00000000a000', '@controls@', now() FROM made;

DROP TABLE made;

ANALYZE;
