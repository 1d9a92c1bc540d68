-- A ledger of the release in previous_release.tar.xz, made by its own gateway over HTTP, with every
-- state of a hold, declines, a frozen card and controls on two levels; by pg_dump --inserts.

SELECT pg_catalog.set_config('search_path', '', false);

CREATE SCHEMA jitway;

CREATE TYPE jitway.account_change AS (
	id uuid,
	version_read bigint,
	version bigint,
	held_change bigint
);

CREATE TYPE jitway.decision_row AS (
	scope uuid,
	key bytea,
	content bytea,
	id uuid,
	program_id uuid,
	cardholder_id uuid,
	card_id uuid,
	account_id uuid,
	reason text,
	kind text,
	amount bigint,
	approved_amount bigint,
	currency text,
	account_version bigint,
	body text,
	request text,
	explanation text
);

CREATE TYPE jitway.window_change AS (
	owner_id uuid,
	version_read bigint,
	day_start date,
	week_start date,
	month_start date,
	year_start date,
	day_amount bigint,
	week_amount bigint,
	month_amount bigint,
	year_amount bigint,
	lifetime_amount bigint,
	day_count bigint,
	week_count bigint,
	month_count bigint,
	year_count bigint,
	lifetime_count bigint
);

CREATE TABLE jitway.account (
    id uuid NOT NULL,
    program_id uuid NOT NULL,
    cardholder_id uuid,
    currency text NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    posted bigint DEFAULT 0 NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    floor bigint DEFAULT 0 NOT NULL,
    shortfall bigint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT account_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'frozen'::text, 'closed'::text]))),
    CONSTRAINT available_not_below_floor CHECK ((((posted - held) + shortfall) >= floor)),
    CONSTRAINT balance_within_bounds CHECK ((((posted >= '-1000000000000000000'::bigint) AND (posted <= '1000000000000000000'::bigint)) AND (held <= '1000000000000000000'::bigint))),
    CONSTRAINT floor_not_positive CHECK ((floor <= 0)),
    CONSTRAINT held_not_negative CHECK ((held >= 0)),
    CONSTRAINT shortfall_not_negative CHECK ((shortfall >= 0))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000');

CREATE TABLE jitway.answer (
    scope uuid NOT NULL,
    key bytea NOT NULL,
    status smallint NOT NULL,
    body text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE jitway.api_key (
    id uuid NOT NULL,
    program_id uuid,
    scopes text[] NOT NULL,
    digest bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone
);

CREATE TABLE jitway.archive (
    collection text NOT NULL,
    id uuid NOT NULL,
    revision bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    program_id uuid,
    cardholder_id uuid,
    card_id uuid,
    account_id uuid,
    decision text,
    reason text,
    merchant text,
    amount bigint,
    document jsonb NOT NULL
)
PARTITION BY LIST (collection);

CREATE TABLE jitway.archive_authorizations (
    collection text CONSTRAINT archive_collection_not_null NOT NULL,
    id uuid CONSTRAINT archive_id_not_null NOT NULL,
    revision bigint CONSTRAINT archive_revision_not_null NOT NULL,
    occurred_at timestamp with time zone CONSTRAINT archive_occurred_at_not_null NOT NULL,
    program_id uuid,
    cardholder_id uuid,
    card_id uuid,
    account_id uuid,
    decision text,
    reason text,
    merchant text,
    amount bigint,
    document jsonb CONSTRAINT archive_document_not_null NOT NULL
)
WITH (fillfactor='85', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE jitway.archive_transactions (
    collection text CONSTRAINT archive_collection_not_null NOT NULL,
    id uuid CONSTRAINT archive_id_not_null NOT NULL,
    revision bigint CONSTRAINT archive_revision_not_null NOT NULL,
    occurred_at timestamp with time zone CONSTRAINT archive_occurred_at_not_null NOT NULL,
    program_id uuid,
    cardholder_id uuid,
    card_id uuid,
    account_id uuid,
    decision text,
    reason text,
    merchant text,
    amount bigint,
    document jsonb CONSTRAINT archive_document_not_null NOT NULL
);

CREATE TABLE jitway.archive_webhooks (
    collection text CONSTRAINT archive_collection_not_null NOT NULL,
    id uuid CONSTRAINT archive_id_not_null NOT NULL,
    revision bigint CONSTRAINT archive_revision_not_null NOT NULL,
    occurred_at timestamp with time zone CONSTRAINT archive_occurred_at_not_null NOT NULL,
    program_id uuid,
    cardholder_id uuid,
    card_id uuid,
    account_id uuid,
    decision text,
    reason text,
    merchant text,
    amount bigint,
    document jsonb CONSTRAINT archive_document_not_null NOT NULL
);

CREATE TABLE jitway.audit (
    id uuid NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    program_id uuid,
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    reason text,
    account_id uuid,
    account_version bigint,
    recorded_at timestamp with time zone NOT NULL
);

CREATE TABLE jitway.card (
    id uuid NOT NULL,
    program_id uuid NOT NULL,
    cardholder_id uuid NOT NULL,
    account_id uuid NOT NULL,
    external_id text,
    last4 text,
    state text DEFAULT 'active'::text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT card_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'frozen'::text, 'closed'::text]))),
    CONSTRAINT last4_is_four_digits CHECK ((last4 ~ '^[0-9]{4}$'::text))
);

CREATE TABLE jitway.cardholder (
    id uuid NOT NULL,
    program_id uuid NOT NULL,
    external_id text,
    name text,
    state text DEFAULT 'active'::text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT cardholder_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'suspended'::text, 'closed'::text])))
);

CREATE TABLE jitway.dead_letter (
    "position" bigint NOT NULL,
    queue text NOT NULL,
    id text NOT NULL,
    routing_key text NOT NULL,
    body bytea NOT NULL,
    cause text NOT NULL,
    attempts integer NOT NULL,
    replays integer NOT NULL,
    history jsonb NOT NULL,
    first_failed_at timestamp with time zone NOT NULL,
    last_failed_at timestamp with time zone NOT NULL
);

ALTER TABLE jitway.dead_letter ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME jitway.dead_letter_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE jitway.decision (
    id uuid NOT NULL,
    scope uuid NOT NULL,
    program_id uuid,
    cardholder_id uuid,
    card_id uuid,
    account_id uuid,
    outcome text NOT NULL,
    reason text,
    kind text NOT NULL,
    amount bigint NOT NULL,
    approved_amount bigint NOT NULL,
    currency text NOT NULL,
    account_version bigint,
    place integer NOT NULL,
    decided_at timestamp with time zone NOT NULL,
    body text NOT NULL,
    request text NOT NULL,
    explanation text NOT NULL,
    CONSTRAINT approved_amount_within_request CHECK (((approved_amount >= 0) AND (approved_amount <= amount))),
    CONSTRAINT approved_knows_its_account CHECK (((outcome = 'declined'::text) OR ((account_id IS NOT NULL) AND (card_id IS NOT NULL)))),
    CONSTRAINT decision_amount_not_negative CHECK ((amount >= 0)),
    CONSTRAINT decision_outcome_check CHECK ((outcome = ANY (ARRAY['approved'::text, 'declined'::text]))),
    CONSTRAINT declined_approves_nothing CHECK (((outcome = 'approved'::text) OR (approved_amount = 0))),
    CONSTRAINT declined_has_reason CHECK (((outcome = 'declined'::text) = (reason IS NOT NULL)))
);

CREATE TABLE jitway.delivery (
    "position" bigint NOT NULL,
    queue text NOT NULL,
    id text NOT NULL,
    routing_key text NOT NULL,
    body bytea NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    handed_out integer DEFAULT 0 NOT NULL,
    replays integer DEFAULT 0 NOT NULL,
    history jsonb DEFAULT '[]'::jsonb NOT NULL,
    first_failed_at timestamp with time zone,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    token bigint
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000');

ALTER TABLE jitway.delivery ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME jitway.delivery_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE jitway.delivery_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jitway.hold (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    amount bigint NOT NULL,
    captured bigint DEFAULT 0 NOT NULL,
    released bigint DEFAULT 0 NOT NULL,
    captured_beyond bigint DEFAULT 0 NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    recalled_at timestamp with time zone,
    closed_at timestamp with time zone,
    CONSTRAINT hold_amount_positive CHECK ((amount > 0)),
    CONSTRAINT hold_closed_at_set_unless_active CHECK (((state = 'active'::text) = (closed_at IS NULL))),
    CONSTRAINT hold_is_accounted_for CHECK (((captured >= 0) AND (released >= 0) AND (captured_beyond >= 0) AND ((captured + released) <= amount) AND ((state = 'active'::text) = ((captured + released) < amount)))),
    CONSTRAINT hold_state_check CHECK ((state = ANY (ARRAY['active'::text, 'captured'::text, 'released'::text, 'expired'::text, 'abandoned'::text]))),
    CONSTRAINT recalled_is_not_abandoned CHECK (((state <> 'abandoned'::text) OR (recalled_at IS NULL)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE jitway.idempotency_key (
    scope uuid NOT NULL,
    key bytea NOT NULL,
    content bytea NOT NULL,
    subject uuid NOT NULL
);

CREATE TABLE jitway.inbox (
    consumer text NOT NULL,
    event_id uuid NOT NULL
)
WITH (autovacuum_vacuum_insert_scale_factor='0.1');

CREATE TABLE jitway.lease (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    until timestamp with time zone NOT NULL
);

CREATE SEQUENCE jitway.outbox_position
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jitway.outbox (
    slot smallint NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    program_id uuid,
    account_id uuid,
    account_version bigint,
    occurred_at timestamp with time zone NOT NULL,
    body text,
    published_at timestamp with time zone,
    "position" bigint DEFAULT nextval('jitway.outbox_position'::regclass) NOT NULL
)
PARTITION BY LIST (slot);

CREATE TABLE jitway.outbox_0 (
    slot smallint CONSTRAINT outbox_slot_not_null NOT NULL,
    id uuid CONSTRAINT outbox_id_not_null NOT NULL,
    type text CONSTRAINT outbox_type_not_null NOT NULL,
    program_id uuid,
    account_id uuid,
    account_version bigint,
    occurred_at timestamp with time zone CONSTRAINT outbox_occurred_at_not_null NOT NULL,
    body text,
    published_at timestamp with time zone,
    "position" bigint DEFAULT nextval('jitway.outbox_position'::regclass) CONSTRAINT outbox_position_not_null NOT NULL
);

CREATE TABLE jitway.outbox_1 (
    slot smallint CONSTRAINT outbox_slot_not_null NOT NULL,
    id uuid CONSTRAINT outbox_id_not_null NOT NULL,
    type text CONSTRAINT outbox_type_not_null NOT NULL,
    program_id uuid,
    account_id uuid,
    account_version bigint,
    occurred_at timestamp with time zone CONSTRAINT outbox_occurred_at_not_null NOT NULL,
    body text,
    published_at timestamp with time zone,
    "position" bigint DEFAULT nextval('jitway.outbox_position'::regclass) CONSTRAINT outbox_position_not_null NOT NULL
);

CREATE TABLE jitway.outbox_2 (
    slot smallint CONSTRAINT outbox_slot_not_null NOT NULL,
    id uuid CONSTRAINT outbox_id_not_null NOT NULL,
    type text CONSTRAINT outbox_type_not_null NOT NULL,
    program_id uuid,
    account_id uuid,
    account_version bigint,
    occurred_at timestamp with time zone CONSTRAINT outbox_occurred_at_not_null NOT NULL,
    body text,
    published_at timestamp with time zone,
    "position" bigint DEFAULT nextval('jitway.outbox_position'::regclass) CONSTRAINT outbox_position_not_null NOT NULL
);

CREATE TABLE jitway.outbox_3 (
    slot smallint CONSTRAINT outbox_slot_not_null NOT NULL,
    id uuid CONSTRAINT outbox_id_not_null NOT NULL,
    type text CONSTRAINT outbox_type_not_null NOT NULL,
    program_id uuid,
    account_id uuid,
    account_version bigint,
    occurred_at timestamp with time zone CONSTRAINT outbox_occurred_at_not_null NOT NULL,
    body text,
    published_at timestamp with time zone,
    "position" bigint DEFAULT nextval('jitway.outbox_position'::regclass) CONSTRAINT outbox_position_not_null NOT NULL
);

CREATE TABLE jitway.outbox_claim (
    token bigint NOT NULL,
    holder text NOT NULL,
    backend integer,
    until timestamp with time zone NOT NULL,
    events uuid[] NOT NULL,
    accounts uuid[] NOT NULL
);

CREATE SEQUENCE jitway.outbox_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE jitway.program (
    id uuid NOT NULL,
    name text NOT NULL,
    currency text NOT NULL,
    time_zone text NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT program_currency_is_iso CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT program_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'suspended'::text, 'closed'::text])))
);

CREATE TABLE jitway.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE jitway.spend_control (
    owner_id uuid NOT NULL,
    owner_kind text NOT NULL,
    program_id uuid NOT NULL,
    controls jsonb NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    CONSTRAINT spend_control_owner_kind_check CHECK ((owner_kind = ANY (ARRAY['card'::text, 'cardholder'::text, 'program'::text])))
);

CREATE TABLE jitway.spend_window (
    owner_id uuid NOT NULL,
    owner_kind text NOT NULL,
    program_id uuid NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    day_start date DEFAULT '-infinity'::date NOT NULL,
    day_amount bigint DEFAULT 0 NOT NULL,
    day_count bigint DEFAULT 0 NOT NULL,
    week_start date DEFAULT '-infinity'::date NOT NULL,
    week_amount bigint DEFAULT 0 NOT NULL,
    week_count bigint DEFAULT 0 NOT NULL,
    month_start date DEFAULT '-infinity'::date NOT NULL,
    month_amount bigint DEFAULT 0 NOT NULL,
    month_count bigint DEFAULT 0 NOT NULL,
    year_start date DEFAULT '-infinity'::date NOT NULL,
    year_amount bigint DEFAULT 0 NOT NULL,
    year_count bigint DEFAULT 0 NOT NULL,
    lifetime_amount bigint DEFAULT 0 NOT NULL,
    lifetime_count bigint DEFAULT 0 NOT NULL,
    CONSTRAINT spend_not_negative CHECK (((day_amount >= 0) AND (week_amount >= 0) AND (month_amount >= 0) AND (year_amount >= 0) AND (lifetime_amount >= 0) AND (day_count >= 0) AND (week_count >= 0) AND (month_count >= 0) AND (year_count >= 0) AND (lifetime_count >= 0))),
    CONSTRAINT spend_window_owner_kind_check CHECK ((owner_kind = ANY (ARRAY['card'::text, 'cardholder'::text, 'program'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000');

CREATE TABLE jitway.subscription (
    queue text NOT NULL,
    binding_keys text[] NOT NULL,
    patterns text[] NOT NULL,
    retry_delays_ms integer[] NOT NULL,
    declared_at timestamp with time zone NOT NULL
);

CREATE TABLE jitway.system_account (
    id uuid NOT NULL,
    program_id uuid NOT NULL,
    code text NOT NULL,
    currency text NOT NULL,
    CONSTRAINT system_account_code_is_known CHECK ((code = ANY (ARRAY['program_funding'::text, 'network_settlement'::text, 'fees'::text, 'disputes'::text, 'fx'::text])))
);

CREATE TABLE jitway.transfer (
    id uuid NOT NULL,
    program_id uuid NOT NULL,
    account_id uuid NOT NULL,
    kind text NOT NULL,
    layer text NOT NULL,
    debit_account_id uuid NOT NULL,
    credit_account_id uuid NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    held_change bigint DEFAULT 0 NOT NULL,
    authorization_id uuid,
    account_version bigint NOT NULL,
    description text,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT pending_transfer_only_releases CHECK (((layer = 'posted'::text) OR (held_change = (- amount)))),
    CONSTRAINT transfer_amount_positive CHECK ((amount > 0)),
    CONSTRAINT transfer_has_two_sides CHECK ((debit_account_id <> credit_account_id)),
    CONSTRAINT transfer_held_change_check CHECK ((held_change <= 0)),
    CONSTRAINT transfer_kind_check CHECK ((kind = ANY (ARRAY['deposit'::text, 'withdrawal'::text, 'capture'::text, 'reversal'::text, 'expiry'::text, 'abandonment'::text]))),
    CONSTRAINT transfer_layer_check CHECK ((layer = ANY (ARRAY['posted'::text, 'pending'::text]))),
    CONSTRAINT transfer_touches_its_account CHECK (((account_id = debit_account_id) OR (account_id = credit_account_id)))
);

CREATE TABLE jitway.webhook (
    id uuid NOT NULL,
    program_id uuid,
    scope uuid NOT NULL,
    source text NOT NULL,
    message_id text NOT NULL,
    content bytea NOT NULL,
    payload text NOT NULL,
    received_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY jitway.archive ATTACH PARTITION jitway.archive_authorizations FOR VALUES IN ('authorizations');

ALTER TABLE ONLY jitway.archive ATTACH PARTITION jitway.archive_transactions FOR VALUES IN ('transactions');

ALTER TABLE ONLY jitway.archive ATTACH PARTITION jitway.archive_webhooks FOR VALUES IN ('webhooks');

ALTER TABLE ONLY jitway.outbox ATTACH PARTITION jitway.outbox_0 FOR VALUES IN ('0');

ALTER TABLE ONLY jitway.outbox ATTACH PARTITION jitway.outbox_1 FOR VALUES IN ('1');

ALTER TABLE ONLY jitway.outbox ATTACH PARTITION jitway.outbox_2 FOR VALUES IN ('2');

ALTER TABLE ONLY jitway.outbox ATTACH PARTITION jitway.outbox_3 FOR VALUES IN ('3');

INSERT INTO jitway.account VALUES ('01a204bf-2f59-70ce-94bc-00a418e3f03b', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', 'USD', 'active', 98000, 3500, -5000, 0, 8, '2026-11-22 19:32:48.088572+00');

INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\xe0a026604a43e43e0d0379c458b49a1a', 201, '{"id":"prg_01a204bf2a327971946787a7403f946b","name":"Upgrade","currency":"USD","time_zone":"Europe/Warsaw","status":"active","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":1,"created_at":"2026-11-22T19:32:46.756586Z"}', '2026-11-22 19:32:46.756586+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\xf4f2b657b0d4a1df55fb36c591a03ac8', 201, '{"id":"chd_01a204bf2dca7baeab8256cdd8ec0345","program":"prg_01a204bf2a327971946787a7403f946b","external_id":"ada","name":null,"status":"active","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":1,"created_at":"2026-11-22T19:32:47.689751Z"}', '2026-11-22 19:32:47.689751+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\x27c35e6e9373877f29e562464e46497e', 201, '{"id":"acc_01a204bf2f5970ce94bc00a418e3f03b","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","currency":"USD","status":"active","posted":0,"held":0,"available":5000,"credit_line":5000,"shortfall":0,"version":0,"created_at":"2026-11-22T19:32:48.088572Z"}', '2026-11-22 19:32:48.088572+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\x65314e65a840e31c667fe660977ef727', 201, '{"id":"trf_01a204bf2fd47cad95198b28d1337d14","kind":"deposit","authorization":null,"account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":100000,"currency":"USD","account_version":1,"created_at":"2026-11-22T19:32:48.212875Z","description":null}', '2026-11-22 19:32:48.212875+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\xcaec17f4b8159d486ca352209a0fc2d5', 201, '{"id":"crd_01a204bf30107d9eaf1bbfb25003d125","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":"4242","status":"active","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":1,"created_at":"2026-11-22T19:32:48.272773Z"}', '2026-11-22 19:32:48.272773+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\x178ae0acf7f5c5ab692c698ac329d4fd', 201, '{"id":"crd_01a204bf315f7edbb7ae1b660199fe89","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":null,"status":"active","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":1,"created_at":"2026-11-22T19:32:48.607519Z"}', '2026-11-22 19:32:48.607519+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\x483a7b9a8efd76d68997693760fef96c', 200, '{"id":"crd_01a204bf315f7edbb7ae1b660199fe89","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":null,"status":"frozen","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":2,"created_at":"2026-11-22T19:32:48.607519Z"}', '2026-11-22 19:32:48.884397+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\x7515e3e59c0a721e18937c901d2bd230', 200, '{"id":"crd_01a204bf30107d9eaf1bbfb25003d125","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":"4242","status":"active","controls":{"limits":[{"period":"day","amount":50000},{"period":"lifetime","count":1000}],"block":{"mcc":["7995"],"merchant":[],"country":[]}},"version":2,"created_at":"2026-11-22T19:32:48.272773Z"}', '2026-11-22 19:32:48.917428+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\xd70c81fc6cc1545aae876d61c3706a93', 200, '{"id":"prg_01a204bf2a327971946787a7403f946b","name":"Upgrade","currency":"USD","time_zone":"Europe/Warsaw","status":"active","controls":{"limits":[{"period":"month","amount":5000000}],"block":{"mcc":[],"merchant":[],"country":[]}},"version":2,"created_at":"2026-11-22T19:32:46.756586Z"}', '2026-11-22 19:32:48.953815+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\x8c7b90b6d2563afe40e03d7a9a84723b', 201, '{"id":"trf_01a204bf35de70489543bb88d9fe36cd","kind":"capture","authorization":"aut_01a204bf34477c00ace1fa4a6c3b4176","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":1500,"currency":"USD","account_version":4,"created_at":"2026-11-22T19:32:49.757905Z","description":null}', '2026-11-22 19:32:49.757905+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\xf51e7050799ce282f086f07e426473fb', 201, '{"id":"trf_01a204bf37257a819765f5f6f75204eb","kind":"capture","authorization":"aut_01a204bf360678e488a326bcd7019338","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":500,"currency":"USD","account_version":6,"created_at":"2026-11-22T19:32:50.085569Z","description":null}', '2026-11-22 19:32:50.085569+00');
INSERT INTO jitway.answer VALUES ('00000000-0000-0000-0000-000000000000', '\xa034f5155263d735beebd1fb8a4a4de7', 201, '{"id":"trf_01a204bf388e7e79837af4beddc0183b","kind":"reversal","authorization":"aut_01a204bf37507221a38aec02ed31110b","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":700,"currency":"USD","account_version":8,"created_at":"2026-11-22T19:32:50.446775Z","description":null}', '2026-11-22 19:32:50.446775+00');

INSERT INTO jitway.api_key VALUES ('01a204bf-1b7e-7fe9-b5e4-8ec86b50ceb0', NULL, '{authorize,read,operate,admin}', '\x0dc0c3d4994e3980cfd61e5256bfc04da8976f9576732d63dc02ff11a110cf1b', '2026-11-22 19:32:43.006936+00', NULL, NULL);

INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-32f8-7fc4-8dcb-2d8e263dfca3', 2, '2026-11-22 19:32:49.059534+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'm-17', 1000, '{"id": "aut_01a204bf32f87fc48dcb2d8e263dfca3", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "purchase", "amount": 1000, "reason": null, "status": "open", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 0, "currency": "USD", "decision": "approved", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 0, "available": 104000, "remaining": 1000, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:49.059534Z", "expires_at": "2026-11-29T19:32:49.059534Z", "explanation": {"rows": [["card_active", null, null, "active", "active", null, "passed"], ["cardholder_active", null, null, "active", "active", null, "passed"], ["account_active", null, null, "active", "active", null, "passed"], ["program_active", null, null, "active", "active", null, "passed"], ["currency", null, null, "USD", "USD", null, "passed"], ["mcc", "card", null, "5942", null, null, "passed"], ["spend_limit", "program", "month", 0, 5000000, 4999000, "passed"], ["spend_limit", "card", "day", 0, 50000, 49000, "passed"], ["count_limit", "card", "lifetime", 0, 1000, 999, "passed"], ["available_balance", null, null, 105000, 1000, 104000, "passed"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 2, "approved_amount": 1000, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-3447-7c00-ace1-fa4a6c3b4176', 4, '2026-11-22 19:32:49.360067+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'm-17', 2000, '{"id": "aut_01a204bf34477c00ace1fa4a6c3b4176", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "purchase", "amount": 2000, "reason": null, "status": "captured", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 1500, "currency": "USD", "decision": "approved", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 500, "available": 102000, "remaining": 0, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:49.360067Z", "expires_at": "2026-11-29T19:32:49.360067Z", "explanation": {"rows": [["card_active", null, null, "active", "active", null, "passed"], ["cardholder_active", null, null, "active", "active", null, "passed"], ["account_active", null, null, "active", "active", null, "passed"], ["program_active", null, null, "active", "active", null, "passed"], ["currency", null, null, "USD", "USD", null, "passed"], ["mcc", "card", null, "5942", null, null, "passed"], ["spend_limit", "program", "month", 1000, 5000000, 4997000, "passed"], ["spend_limit", "card", "day", 1000, 50000, 47000, "passed"], ["count_limit", "card", "lifetime", 1, 1000, 998, "passed"], ["available_balance", null, null, 104000, 2000, 102000, "passed"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 3, "approved_amount": 2000, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-3606-78e4-88a3-26bcd7019338', 6, '2026-11-22 19:32:49.800371+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'm-17', 3000, '{"id": "aut_01a204bf360678e488a326bcd7019338", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "purchase", "amount": 3000, "reason": null, "status": "open", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 500, "currency": "USD", "decision": "approved", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 0, "available": 99500, "remaining": 2500, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:49.800371Z", "expires_at": "2026-11-29T19:32:49.800371Z", "explanation": {"rows": [["card_active", null, null, "active", "active", null, "passed"], ["cardholder_active", null, null, "active", "active", null, "passed"], ["account_active", null, null, "active", "active", null, "passed"], ["program_active", null, null, "active", "active", null, "passed"], ["currency", null, null, "USD", "USD", null, "passed"], ["mcc", "card", null, "5942", null, null, "passed"], ["spend_limit", "program", "month", 2500, 5000000, 4994500, "passed"], ["spend_limit", "card", "day", 2500, 50000, 44500, "passed"], ["count_limit", "card", "lifetime", 2, 1000, 997, "passed"], ["available_balance", null, null, 102500, 3000, 99500, "passed"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 5, "approved_amount": 3000, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-3750-7221-a38a-ec02ed31110b', 8, '2026-11-22 19:32:50.133965+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'm-17', 700, '{"id": "aut_01a204bf37507221a38aec02ed31110b", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "purchase", "amount": 700, "reason": null, "status": "released", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 0, "currency": "USD", "decision": "approved", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 700, "available": 98800, "remaining": 0, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:50.133965Z", "expires_at": "2026-11-29T19:32:50.133965Z", "explanation": {"rows": [["card_active", null, null, "active", "active", null, "passed"], ["cardholder_active", null, null, "active", "active", null, "passed"], ["account_active", null, null, "active", "active", null, "passed"], ["program_active", null, null, "active", "active", null, "passed"], ["currency", null, null, "USD", "USD", null, "passed"], ["mcc", "card", null, "5942", null, null, "passed"], ["spend_limit", "program", "month", 5500, 5000000, 4993800, "passed"], ["spend_limit", "card", "day", 5500, 50000, 43800, "passed"], ["count_limit", "card", "lifetime", 3, 1000, 996, "passed"], ["available_balance", null, null, 99500, 700, 98800, "passed"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 7, "approved_amount": 700, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-38eb-7fe9-bd05-0c2cc288d288', 8, '2026-11-22 19:32:50.541972+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-315f-7edb-b7ae-1b660199fe89', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'declined', 'card_frozen', 'm-17', 100, '{"id": "aut_01a204bf38eb7fe9bd050c2cc288d288", "card": "crd_01a204bf315f7edbb7ae1b660199fe89", "kind": "purchase", "amount": 100, "reason": "card_frozen", "status": "declined", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 0, "currency": "USD", "decision": "declined", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 0, "available": 99500, "remaining": 0, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:50.541972Z", "expires_at": null, "explanation": {"rows": [["card_active", null, null, "frozen", "active", null, "broken"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 8, "approved_amount": 0, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-3909-73d2-8b37-e217094e1470', 0, '2026-11-22 19:32:50.569906+00', NULL, NULL, '01a20000-0000-7000-8000-00000000abcd', NULL, 'declined', 'card_not_found', 'm-17', 5, '{"id": "aut_01a204bf390973d28b37e217094e1470", "card": "crd_01a2000000007000800000000000abcd", "kind": "purchase", "amount": 5, "reason": "card_not_found", "status": "declined", "account": null, "program": null, "captured": 0, "currency": "USD", "decision": "declined", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 0, "available": null, "remaining": 0, "cardholder": null, "decided_at": "2026-11-22T19:32:50.569906Z", "expires_at": null, "explanation": {"rows": [["card_known", null, null, false, null, null, "broken"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": null, "approved_amount": 0, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-38a6-7558-a1ce-a7a50fb563a9', 8, '2026-11-22 19:32:50.472988+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'declined', 'spend_limit_exceeded', 'm-17', 900000, '{"id": "aut_01a204bf38a67558a1cea7a50fb563a9", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "purchase", "amount": 900000, "reason": "spend_limit_exceeded", "status": "declined", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 0, "currency": "USD", "decision": "declined", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "metadata": null, "released": 0, "available": 99500, "remaining": 0, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:50.472988Z", "expires_at": null, "explanation": {"rows": [["card_active", null, null, "active", "active", null, "passed"], ["cardholder_active", null, null, "active", "active", null, "passed"], ["account_active", null, null, "active", "active", null, "passed"], ["program_active", null, null, "active", "active", null, "passed"], ["currency", null, null, "USD", "USD", null, "passed"], ["mcc", "card", null, "5942", null, null, "passed"], ["spend_limit", "program", "month", 5500, 5000000, 4094500, "passed"], ["spend_limit", "card", "day", 5500, 50000, -855500, "broken"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 8, "approved_amount": 0, "network_reference": null}');
INSERT INTO jitway.archive_authorizations VALUES ('authorizations', '01a204bf-38cc-7d04-9730-7dcf82808df1', 8, '2026-11-22 19:32:50.510634+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'declined', 'mcc_blocked', 'm-17', 100, '{"id": "aut_01a204bf38cc7d0497307dcf82808df1", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "purchase", "amount": 100, "reason": "mcc_blocked", "status": "declined", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "captured": 0, "currency": "USD", "decision": "declined", "merchant": {"id": "m-17", "mcc": "7995", "country": "US"}, "metadata": null, "released": 0, "available": 99500, "remaining": 0, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "decided_at": "2026-11-22T19:32:50.510634Z", "expires_at": null, "explanation": {"rows": [["card_active", null, null, "active", "active", null, "passed"], ["cardholder_active", null, null, "active", "active", null, "passed"], ["account_active", null, null, "active", "active", null, "passed"], ["program_active", null, null, "active", "active", null, "passed"], ["currency", null, null, "USD", "USD", null, "passed"], ["mcc", "card", null, "7995", null, null, "broken"]], "names": ["rule", "level", "period", "fact", "limit", "headroom", "outcome"]}, "account_version": 8, "approved_amount": 0, "network_reference": null}');

INSERT INTO jitway.archive_transactions VALUES ('transactions', '01a204bf-2fd4-7cad-9519-8b28d1337d14', 1, '2026-11-22 19:32:48.212875+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', NULL, '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, NULL, NULL, 100000, '{"id": "trf_01a204bf2fd47cad95198b28d1337d14", "card": null, "kind": "deposit", "amount": 100000, "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "currency": "USD", "merchant": null, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.212875Z", "description": null, "held_change": 0, "authorization": null, "posted_change": 100000, "account_version": 1}');
INSERT INTO jitway.archive_transactions VALUES ('transactions', '01a204bf-35de-7048-9543-bb88d9fe36cd', 4, '2026-11-22 19:32:49.757905+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, NULL, 'm-17', 1500, '{"id": "trf_01a204bf35de70489543bb88d9fe36cd", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "capture", "amount": 1500, "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "currency": "USD", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:49.757905Z", "description": null, "held_change": -2000, "authorization": "aut_01a204bf34477c00ace1fa4a6c3b4176", "posted_change": -1500, "account_version": 4}');
INSERT INTO jitway.archive_transactions VALUES ('transactions', '01a204bf-3725-7a81-9765-f5f6f75204eb', 6, '2026-11-22 19:32:50.085569+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, NULL, 'm-17', 500, '{"id": "trf_01a204bf37257a819765f5f6f75204eb", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "capture", "amount": 500, "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "currency": "USD", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:50.085569Z", "description": null, "held_change": -500, "authorization": "aut_01a204bf360678e488a326bcd7019338", "posted_change": -500, "account_version": 6}');
INSERT INTO jitway.archive_transactions VALUES ('transactions', '01a204bf-388e-7e79-837a-f4beddc0183b', 8, '2026-11-22 19:32:50.446775+00', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, NULL, 'm-17', 700, '{"id": "trf_01a204bf388e7e79837af4beddc0183b", "card": "crd_01a204bf30107d9eaf1bbfb25003d125", "kind": "reversal", "amount": 700, "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "currency": "USD", "merchant": {"id": "m-17", "mcc": "5942", "country": "US"}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:50.446775Z", "description": null, "held_change": -700, "authorization": "aut_01a204bf37507221a38aec02ed31110b", "posted_change": 0, "account_version": 8}');

INSERT INTO jitway.audit VALUES ('01a204bf-1b7e-7bde-87b2-de656f34c11e', 'cli', 'key.created', NULL, 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', NULL, '{"id": "key_01a204bf1b7e7fe9b5e48ec86b50ceb0", "scopes": ["authorize", "read", "operate", "admin"], "program": null, "created_at": "2026-11-22T19:32:43.006936Z", "expires_at": null, "revoked_at": null}', 'jitway init', NULL, NULL, '2026-11-22 19:32:43.006936+00');
INSERT INTO jitway.audit VALUES ('01a204bf-2a18-7d90-bfec-f8a0c72495e7', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'program.created', '01a204bf-2a32-7971-9467-87a7403f946b', 'prg_01a204bf2a327971946787a7403f946b', NULL, '{"id": "prg_01a204bf2a327971946787a7403f946b", "name": "Upgrade", "status": "active", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "currency": "USD", "time_zone": "Europe/Warsaw", "created_at": "2026-11-22T19:32:46.756586Z"}', NULL, NULL, NULL, '2026-11-22 19:32:46.756586+00');
INSERT INTO jitway.audit VALUES ('01a204bf-2dc7-78ce-b5ba-4e41969394c6', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'cardholder.created', '01a204bf-2a32-7971-9467-87a7403f946b', 'chd_01a204bf2dca7baeab8256cdd8ec0345', NULL, '{"id": "chd_01a204bf2dca7baeab8256cdd8ec0345", "name": null, "status": "active", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "created_at": "2026-11-22T19:32:47.689751Z", "external_id": "ada"}', NULL, NULL, NULL, '2026-11-22 19:32:47.689751+00');
INSERT INTO jitway.audit VALUES ('01a204bf-2f58-76ee-a9e3-690e3e9cd15a', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'account.created', '01a204bf-2a32-7971-9467-87a7403f946b', 'acc_01a204bf2f5970ce94bc00a418e3f03b', NULL, '{"id": "acc_01a204bf2f5970ce94bc00a418e3f03b", "held": 0, "posted": 0, "status": "active", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 0, "currency": "USD", "available": 5000, "shortfall": 0, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.088572Z", "credit_line": 5000}', NULL, NULL, NULL, '2026-11-22 19:32:48.088572+00');
INSERT INTO jitway.audit VALUES ('01a204bf-3010-7ae5-937f-80ce57b2de40', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'card.created', '01a204bf-2a32-7971-9467-87a7403f946b', 'crd_01a204bf30107d9eaf1bbfb25003d125', NULL, '{"id": "crd_01a204bf30107d9eaf1bbfb25003d125", "last4": "4242", "status": "active", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.272773Z", "external_id": null}', NULL, NULL, NULL, '2026-11-22 19:32:48.272773+00');
INSERT INTO jitway.audit VALUES ('01a204bf-315f-7535-861d-b8906f8dd2e6', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'card.created', '01a204bf-2a32-7971-9467-87a7403f946b', 'crd_01a204bf315f7edbb7ae1b660199fe89', NULL, '{"id": "crd_01a204bf315f7edbb7ae1b660199fe89", "last4": null, "status": "active", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.607519Z", "external_id": null}', NULL, NULL, NULL, '2026-11-22 19:32:48.607519+00');
INSERT INTO jitway.audit VALUES ('01a204bf-3274-70d9-b730-09db2dd59d5c', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'card.frozen', '01a204bf-2a32-7971-9467-87a7403f946b', 'crd_01a204bf315f7edbb7ae1b660199fe89', '{"id": "crd_01a204bf315f7edbb7ae1b660199fe89", "last4": null, "status": "active", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.607519Z", "external_id": null}', '{"id": "crd_01a204bf315f7edbb7ae1b660199fe89", "last4": null, "status": "frozen", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 2, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.607519Z", "external_id": null}', 'lost', NULL, NULL, '2026-11-22 19:32:48.884397+00');
INSERT INTO jitway.audit VALUES ('01a204bf-3295-74d3-86e0-4aa3c5e315f5', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'card.controls_changed', '01a204bf-2a32-7971-9467-87a7403f946b', 'crd_01a204bf30107d9eaf1bbfb25003d125', '{"id": "crd_01a204bf30107d9eaf1bbfb25003d125", "last4": "4242", "status": "active", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.272773Z", "external_id": null}', '{"id": "crd_01a204bf30107d9eaf1bbfb25003d125", "last4": "4242", "status": "active", "account": "acc_01a204bf2f5970ce94bc00a418e3f03b", "program": "prg_01a204bf2a327971946787a7403f946b", "version": 2, "controls": {"block": {"mcc": ["7995"], "country": [], "merchant": []}, "limits": [{"amount": 50000, "period": "day"}, {"count": 1000, "period": "lifetime"}]}, "cardholder": "chd_01a204bf2dca7baeab8256cdd8ec0345", "created_at": "2026-11-22T19:32:48.272773Z", "external_id": null}', NULL, NULL, NULL, '2026-11-22 19:32:48.917428+00');
INSERT INTO jitway.audit VALUES ('01a204bf-32b9-7bdd-85a3-679a5edee748', 'key_01a204bf1b7e7fe9b5e48ec86b50ceb0', 'program.controls_changed', '01a204bf-2a32-7971-9467-87a7403f946b', 'prg_01a204bf2a327971946787a7403f946b', '{"id": "prg_01a204bf2a327971946787a7403f946b", "name": "Upgrade", "status": "active", "version": 1, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": []}, "currency": "USD", "time_zone": "Europe/Warsaw", "created_at": "2026-11-22T19:32:46.756586Z"}', '{"id": "prg_01a204bf2a327971946787a7403f946b", "name": "Upgrade", "status": "active", "version": 2, "controls": {"block": {"mcc": [], "country": [], "merchant": []}, "limits": [{"amount": 5000000, "period": "month"}]}, "currency": "USD", "time_zone": "Europe/Warsaw", "created_at": "2026-11-22T19:32:46.756586Z"}', NULL, NULL, NULL, '2026-11-22 19:32:48.953815+00');

INSERT INTO jitway.card VALUES ('01a204bf-315f-7edb-b7ae-1b660199fe89', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, NULL, 'frozen', 2, '2026-11-22 19:32:48.607519+00');
INSERT INTO jitway.card VALUES ('01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, '4242', 'active', 2, '2026-11-22 19:32:48.272773+00');

INSERT INTO jitway.cardholder VALUES ('01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-2a32-7971-9467-87a7403f946b', 'ada', NULL, 'active', 1, '2026-11-22 19:32:47.689751+00');

INSERT INTO jitway.decision VALUES ('01a204bf-32f8-7fc4-8dcb-2d8e263dfca3', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'purchase', 1000, 1000, 'USD', 2, 0, '2026-11-22 19:32:49.059534+00', '{"id":"aut_01a204bf32f87fc48dcb2d8e263dfca3","decision":"approved","reason":null,"card":"crd_01a204bf30107d9eaf1bbfb25003d125","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":1000,"approved_amount":1000,"currency":"USD","available":104000,"account_version":2,"decided_at":"2026-11-22T19:32:49.059534Z","expires_at":"2026-11-29T19:32:49.059534Z","status":"open"}', '{"card":"crd_01a204bf30107d9eaf1bbfb25003d125","amount":1000,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_active",null,null,"active","active",null,true],["cardholder_active",null,null,"active","active",null,true],["account_active",null,null,"active","active",null,true],["program_active",null,null,"active","active",null,true],["currency",null,null,"USD","USD",null,true],["mcc","card",null,"5942",null,null,true],["spend_limit","program","month",0,5000000,4999000,true],["spend_limit","card","day",0,50000,49000,true],["count_limit","card","lifetime",0,1000,999,true],["available_balance",null,null,105000,1000,104000,true]]');
INSERT INTO jitway.decision VALUES ('01a204bf-3447-7c00-ace1-fa4a6c3b4176', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'purchase', 2000, 2000, 'USD', 3, 0, '2026-11-22 19:32:49.360067+00', '{"id":"aut_01a204bf34477c00ace1fa4a6c3b4176","decision":"approved","reason":null,"card":"crd_01a204bf30107d9eaf1bbfb25003d125","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":2000,"approved_amount":2000,"currency":"USD","available":102000,"account_version":3,"decided_at":"2026-11-22T19:32:49.360067Z","expires_at":"2026-11-29T19:32:49.360067Z","status":"open"}', '{"card":"crd_01a204bf30107d9eaf1bbfb25003d125","amount":2000,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_active",null,null,"active","active",null,true],["cardholder_active",null,null,"active","active",null,true],["account_active",null,null,"active","active",null,true],["program_active",null,null,"active","active",null,true],["currency",null,null,"USD","USD",null,true],["mcc","card",null,"5942",null,null,true],["spend_limit","program","month",1000,5000000,4997000,true],["spend_limit","card","day",1000,50000,47000,true],["count_limit","card","lifetime",1,1000,998,true],["available_balance",null,null,104000,2000,102000,true]]');
INSERT INTO jitway.decision VALUES ('01a204bf-3606-78e4-88a3-26bcd7019338', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'purchase', 3000, 3000, 'USD', 5, 0, '2026-11-22 19:32:49.800371+00', '{"id":"aut_01a204bf360678e488a326bcd7019338","decision":"approved","reason":null,"card":"crd_01a204bf30107d9eaf1bbfb25003d125","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":3000,"approved_amount":3000,"currency":"USD","available":99500,"account_version":5,"decided_at":"2026-11-22T19:32:49.800371Z","expires_at":"2026-11-29T19:32:49.800371Z","status":"open"}', '{"card":"crd_01a204bf30107d9eaf1bbfb25003d125","amount":3000,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_active",null,null,"active","active",null,true],["cardholder_active",null,null,"active","active",null,true],["account_active",null,null,"active","active",null,true],["program_active",null,null,"active","active",null,true],["currency",null,null,"USD","USD",null,true],["mcc","card",null,"5942",null,null,true],["spend_limit","program","month",2500,5000000,4994500,true],["spend_limit","card","day",2500,50000,44500,true],["count_limit","card","lifetime",2,1000,997,true],["available_balance",null,null,102500,3000,99500,true]]');
INSERT INTO jitway.decision VALUES ('01a204bf-3750-7221-a38a-ec02ed31110b', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'approved', NULL, 'purchase', 700, 700, 'USD', 7, 0, '2026-11-22 19:32:50.133965+00', '{"id":"aut_01a204bf37507221a38aec02ed31110b","decision":"approved","reason":null,"card":"crd_01a204bf30107d9eaf1bbfb25003d125","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":700,"approved_amount":700,"currency":"USD","available":98800,"account_version":7,"decided_at":"2026-11-22T19:32:50.133965Z","expires_at":"2026-11-29T19:32:50.133965Z","status":"open"}', '{"card":"crd_01a204bf30107d9eaf1bbfb25003d125","amount":700,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_active",null,null,"active","active",null,true],["cardholder_active",null,null,"active","active",null,true],["account_active",null,null,"active","active",null,true],["program_active",null,null,"active","active",null,true],["currency",null,null,"USD","USD",null,true],["mcc","card",null,"5942",null,null,true],["spend_limit","program","month",5500,5000000,4993800,true],["spend_limit","card","day",5500,50000,43800,true],["count_limit","card","lifetime",3,1000,996,true],["available_balance",null,null,99500,700,98800,true]]');
INSERT INTO jitway.decision VALUES ('01a204bf-38a6-7558-a1ce-a7a50fb563a9', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'declined', 'spend_limit_exceeded', 'purchase', 900000, 0, 'USD', 8, 0, '2026-11-22 19:32:50.472988+00', '{"id":"aut_01a204bf38a67558a1cea7a50fb563a9","decision":"declined","reason":"spend_limit_exceeded","card":"crd_01a204bf30107d9eaf1bbfb25003d125","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":900000,"approved_amount":0,"currency":"USD","available":99500,"account_version":8,"decided_at":"2026-11-22T19:32:50.472988Z","expires_at":null,"status":"declined"}', '{"card":"crd_01a204bf30107d9eaf1bbfb25003d125","amount":900000,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_active",null,null,"active","active",null,true],["cardholder_active",null,null,"active","active",null,true],["account_active",null,null,"active","active",null,true],["program_active",null,null,"active","active",null,true],["currency",null,null,"USD","USD",null,true],["mcc","card",null,"5942",null,null,true],["spend_limit","program","month",5500,5000000,4094500,true],["spend_limit","card","day",5500,50000,-855500,false]]');
INSERT INTO jitway.decision VALUES ('01a204bf-38cc-7d04-9730-7dcf82808df1', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-3010-7d9e-af1b-bfb25003d125', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'declined', 'mcc_blocked', 'purchase', 100, 0, 'USD', 8, 0, '2026-11-22 19:32:50.510634+00', '{"id":"aut_01a204bf38cc7d0497307dcf82808df1","decision":"declined","reason":"mcc_blocked","card":"crd_01a204bf30107d9eaf1bbfb25003d125","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":100,"approved_amount":0,"currency":"USD","available":99500,"account_version":8,"decided_at":"2026-11-22T19:32:50.510634Z","expires_at":null,"status":"declined"}', '{"card":"crd_01a204bf30107d9eaf1bbfb25003d125","amount":100,"currency":"USD","merchant":{"id":"m-17","mcc":"7995","country":"US"}}', '[["card_active",null,null,"active","active",null,true],["cardholder_active",null,null,"active","active",null,true],["account_active",null,null,"active","active",null,true],["program_active",null,null,"active","active",null,true],["currency",null,null,"USD","USD",null,true],["mcc","card",null,"7995",null,null,false]]');
INSERT INTO jitway.decision VALUES ('01a204bf-38eb-7fe9-bd05-0c2cc288d288', '00000000-0000-0000-0000-000000000000', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2dca-7bae-ab82-56cdd8ec0345', '01a204bf-315f-7edb-b7ae-1b660199fe89', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'declined', 'card_frozen', 'purchase', 100, 0, 'USD', 8, 0, '2026-11-22 19:32:50.541972+00', '{"id":"aut_01a204bf38eb7fe9bd050c2cc288d288","decision":"declined","reason":"card_frozen","card":"crd_01a204bf315f7edbb7ae1b660199fe89","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","amount":100,"approved_amount":0,"currency":"USD","available":99500,"account_version":8,"decided_at":"2026-11-22T19:32:50.541972Z","expires_at":null,"status":"declined"}', '{"card":"crd_01a204bf315f7edbb7ae1b660199fe89","amount":100,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_active",null,null,"frozen","active",null,false]]');
INSERT INTO jitway.decision VALUES ('01a204bf-3909-73d2-8b37-e217094e1470', '00000000-0000-0000-0000-000000000000', NULL, NULL, NULL, NULL, 'declined', 'card_not_found', 'purchase', 5, 0, 'USD', NULL, 0, '2026-11-22 19:32:50.569906+00', '{"id":"aut_01a204bf390973d28b37e217094e1470","decision":"declined","reason":"card_not_found","card":"crd_01a2000000007000800000000000abcd","account":null,"amount":5,"approved_amount":0,"currency":"USD","available":null,"account_version":null,"decided_at":"2026-11-22T19:32:50.569906Z","expires_at":null,"status":"declined"}', '{"card":"crd_01a2000000007000800000000000abcd","amount":5,"currency":"USD","merchant":{"id":"m-17","mcc":"5942","country":"US"}}', '[["card_known",null,null,false,null,null,false]]');

INSERT INTO jitway.hold VALUES ('01a204bf-32f8-7fc4-8dcb-2d8e263dfca3', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 1000, 0, 0, 0, 'active', '2026-11-29 19:32:49.059534+00', NULL, NULL);
INSERT INTO jitway.hold VALUES ('01a204bf-3447-7c00-ace1-fa4a6c3b4176', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 2000, 1500, 500, 0, 'captured', '2026-11-29 19:32:49.360067+00', NULL, '2026-11-22 19:32:49.757905+00');
INSERT INTO jitway.hold VALUES ('01a204bf-3606-78e4-88a3-26bcd7019338', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 3000, 500, 0, 0, 'active', '2026-11-29 19:32:49.800371+00', NULL, NULL);
INSERT INTO jitway.hold VALUES ('01a204bf-3750-7221-a38a-ec02ed31110b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 700, 0, 700, 0, 'released', '2026-11-29 19:32:50.133965+00', NULL, '2026-11-22 19:32:50.446775+00');

INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xe0a026604a43e43e0d0379c458b49a1a', '\xc7146e6459e86c44b1cb1aa0d3070b03', '01a204bf-2a18-7d90-bfec-f8a0c72495e7');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xf4f2b657b0d4a1df55fb36c591a03ac8', '\xbe596c29212624672693bd3165e870a7', '01a204bf-2dc7-78ce-b5ba-4e41969394c6');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x27c35e6e9373877f29e562464e46497e', '\xa4640a096cd3202ba0d83ae805dae435', '01a204bf-2f58-76ee-a9e3-690e3e9cd15a');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x65314e65a840e31c667fe660977ef727', '\x8f306671f986dc2a6c5e1e709bf66e49', '01a204bf-2fd4-7cad-9519-8b28d1337d14');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xcaec17f4b8159d486ca352209a0fc2d5', '\x49a719fdc24cf8d29e593f6c3a7c6f45', '01a204bf-3010-7ae5-937f-80ce57b2de40');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x178ae0acf7f5c5ab692c698ac329d4fd', '\x4c8394728a2ef829513b7168233e00c7', '01a204bf-315f-7535-861d-b8906f8dd2e6');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x483a7b9a8efd76d68997693760fef96c', '\x511f96ac3387930947dd224313664cca', '01a204bf-3274-70d9-b730-09db2dd59d5c');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x7515e3e59c0a721e18937c901d2bd230', '\x04d3552d52e41c640c5322ed88988ba0', '01a204bf-3295-74d3-86e0-4aa3c5e315f5');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xd70c81fc6cc1545aae876d61c3706a93', '\xe4d08a4ac291820be863f529b2ae3221', '01a204bf-32b9-7bdd-85a3-679a5edee748');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xbf418f31bfbb622392270c246c119202', '\xb6dde135182351a9ed964f3447934fee', '01a204bf-32f8-7fc4-8dcb-2d8e263dfca3');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x7757cd33e16ecfa6b0782a158e0e9ad6', '\xd00ccdd10f5c48c023f18f8b8a11cd4e', '01a204bf-3447-7c00-ace1-fa4a6c3b4176');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x8c7b90b6d2563afe40e03d7a9a84723b', '\x82035d9ed086e9edcfa0ded5b6523d5f', '01a204bf-35de-7048-9543-bb88d9fe36cd');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x7ce1f76b4443236f1c14f7914ef3b077', '\xa10532abf6ad29cf789fd0adc89c953f', '01a204bf-3606-78e4-88a3-26bcd7019338');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xf51e7050799ce282f086f07e426473fb', '\x39510b64389ced9a9a4b4ce4835b95ff', '01a204bf-3725-7a81-9765-f5f6f75204eb');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x36377f35a7746327b27fd9d593743bd9', '\x547c50f564f56e1f930c6c9c6cdc6884', '01a204bf-3750-7221-a38a-ec02ed31110b');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\xa034f5155263d735beebd1fb8a4a4de7', '\x7f4e71b9e5b06ecd9b83f27bfe0e2f01', '01a204bf-388e-7e79-837a-f4beddc0183b');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x6d95ac2448513d88d3cf59f02560257a', '\xd23f953ee2ad402ee6aa37d58bc0d247', '01a204bf-38a6-7558-a1ce-a7a50fb563a9');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x38075ca78eefe3e27d162ca105307fd4', '\x42c1929a768ae162467ae4ba54551d14', '01a204bf-38cc-7d04-9730-7dcf82808df1');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x803e655c57ffd658dcac08d9459441a9', '\xa5e313877573bafafd77b55599e2db32', '01a204bf-38eb-7fe9-bd05-0c2cc288d288');
INSERT INTO jitway.idempotency_key VALUES ('00000000-0000-0000-0000-000000000000', '\x81912eb8da826951c80c31467def30f2', '\x3411b513b25d6babcc9b4f218e133986', '01a204bf-3909-73d2-8b37-e217094e1470');

INSERT INTO jitway.inbox VALUES ('transaction-processing-queue', '01a204bf-2fd4-7cad-9519-8b28d1337d14');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-32f8-7fc4-8dcb-2d8e263dfca3');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-3447-7c00-ace1-fa4a6c3b4176');
INSERT INTO jitway.inbox VALUES ('transaction-processing-queue', '01a204bf-35de-7048-9543-bb88d9fe36cd');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-3606-78e4-88a3-26bcd7019338');
INSERT INTO jitway.inbox VALUES ('transaction-processing-queue', '01a204bf-3725-7a81-9765-f5f6f75204eb');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-3750-7221-a38a-ec02ed31110b');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-38a6-7558-a1ce-a7a50fb563a9');
INSERT INTO jitway.inbox VALUES ('transaction-processing-queue', '01a204bf-388e-7e79-837a-f4beddc0183b');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-38cc-7d04-9730-7dcf82808df1');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-38eb-7fe9-bd05-0c2cc288d288');
INSERT INTO jitway.inbox VALUES ('jit-funding-queue', '01a204bf-3909-73d2-8b37-e217094e1470');

INSERT INTO jitway.lease VALUES ('expiry_sweep', 'swp_01a204bf27de77ba8d8e69eb5a93c7b9', 1, '2026-11-22 19:33:16.447137+00');

INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-2fd4-7cad-9519-8b28d1337d14', 'transaction.deposited', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 1, '2026-11-22 19:32:48.212875+00', NULL, '2026-11-22 19:32:48.330224+00', 1);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3010-7ae5-937f-80ce57b2de40', 'card.created', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, '2026-11-22 19:32:48.272773+00', '{"id":"crd_01a204bf30107d9eaf1bbfb25003d125","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":"4242","status":"active","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":1,"created_at":"2026-11-22T19:32:48.272773Z"}', '2026-11-22 19:32:48.417351+00', 2);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-315f-7535-861d-b8906f8dd2e6', 'card.created', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, '2026-11-22 19:32:48.607519+00', '{"id":"crd_01a204bf315f7edbb7ae1b660199fe89","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":null,"status":"active","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":1,"created_at":"2026-11-22T19:32:48.607519Z"}', '2026-11-22 19:32:48.717925+00', 3);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3274-70d9-b730-09db2dd59d5c', 'card.frozen', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, '2026-11-22 19:32:48.884397+00', '{"id":"crd_01a204bf315f7edbb7ae1b660199fe89","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":null,"status":"frozen","controls":{"limits":[],"block":{"mcc":[],"merchant":[],"country":[]}},"version":2,"created_at":"2026-11-22T19:32:48.607519Z"}', '2026-11-22 19:32:48.938266+00', 4);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3295-74d3-86e0-4aa3c5e315f5', 'card.controls_changed', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', NULL, '2026-11-22 19:32:48.917428+00', '{"id":"crd_01a204bf30107d9eaf1bbfb25003d125","program":"prg_01a204bf2a327971946787a7403f946b","cardholder":"chd_01a204bf2dca7baeab8256cdd8ec0345","account":"acc_01a204bf2f5970ce94bc00a418e3f03b","external_id":null,"last4":"4242","status":"active","controls":{"limits":[{"period":"day","amount":50000},{"period":"lifetime","count":1000}],"block":{"mcc":["7995"],"merchant":[],"country":[]}},"version":2,"created_at":"2026-11-22T19:32:48.272773Z"}', '2026-11-22 19:32:48.97519+00', 5);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-32f8-7fc4-8dcb-2d8e263dfca3', 'jit-funding.approved', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 2, '2026-11-22 19:32:49.059534+00', NULL, '2026-11-22 19:32:49.115227+00', 6);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3447-7c00-ace1-fa4a6c3b4176', 'jit-funding.approved', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 3, '2026-11-22 19:32:49.360067+00', NULL, '2026-11-22 19:32:49.448623+00', 7);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-35de-7048-9543-bb88d9fe36cd', 'transaction.captured', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 4, '2026-11-22 19:32:49.757905+00', NULL, '2026-11-22 19:32:49.87828+00', 8);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3606-78e4-88a3-26bcd7019338', 'jit-funding.approved', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 5, '2026-11-22 19:32:49.800371+00', NULL, '2026-11-22 19:32:49.87828+00', 9);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3725-7a81-9765-f5f6f75204eb', 'transaction.captured', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 6, '2026-11-22 19:32:50.085569+00', NULL, '2026-11-22 19:32:50.130309+00', 10);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3750-7221-a38a-ec02ed31110b', 'jit-funding.approved', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 7, '2026-11-22 19:32:50.133965+00', NULL, '2026-11-22 19:32:50.196599+00', 11);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-388e-7e79-837a-f4beddc0183b', 'transaction.reversed', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 8, '2026-11-22 19:32:50.446775+00', NULL, '2026-11-22 19:32:50.484647+00', 12);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-38a6-7558-a1ce-a7a50fb563a9', 'jit-funding.declined', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 8, '2026-11-22 19:32:50.472988+00', NULL, '2026-11-22 19:32:50.484647+00', 13);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-38cc-7d04-9730-7dcf82808df1', 'jit-funding.declined', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 8, '2026-11-22 19:32:50.510634+00', NULL, '2026-11-22 19:32:50.547984+00', 14);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-38eb-7fe9-bd05-0c2cc288d288', 'jit-funding.declined', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 8, '2026-11-22 19:32:50.541972+00', NULL, '2026-11-22 19:32:50.589278+00', 15);
INSERT INTO jitway.outbox_3 VALUES (3, '01a204bf-3909-73d2-8b37-e217094e1470', 'jit-funding.declined', NULL, NULL, NULL, '2026-11-22 19:32:50.569906+00', NULL, '2026-11-22 19:32:50.589278+00', 16);

INSERT INTO jitway.program VALUES ('01a204bf-2a32-7971-9467-87a7403f946b', 'Upgrade', 'USD', 'Europe/Warsaw', 'active', 2, '2026-11-22 19:32:46.756586+00');

INSERT INTO jitway.schema_migrations VALUES (1, '0001_pre_ledger', 'ca3b85d343d54223107516a1f941dab965dbcb80ea0032c78b3030f08933402b', '2026-11-22 19:32:42.910531+00');
INSERT INTO jitway.schema_migrations VALUES (2, '0002_pre_events', '285597dc65faabc5a276a401ddc9c334adc56622cd1fe731ddfcb8274013867b', '2026-11-22 19:32:42.964781+00');
INSERT INTO jitway.schema_migrations VALUES (3, '0003_pre_archive', '735106b46b9db45431065f721dc0f4824910319fa3dd18c761adf1858a6bdd32', '2026-11-22 19:32:42.989308+00');
INSERT INTO jitway.schema_migrations VALUES (4, '0004_pre_batch_rows', '6c3b758d9b5c2000ab9974c61264d293fd7e56724f9bba1eed7340af2f0e4141', '2026-11-22 19:32:42.999647+00');

INSERT INTO jitway.spend_control VALUES ('01a204bf-3010-7d9e-af1b-bfb25003d125', 'card', '01a204bf-2a32-7971-9467-87a7403f946b', '{"block": {"mcc": ["7995"], "country": [], "merchant": []}, "limits": [{"amount": 50000, "period": "day"}, {"count": 1000, "period": "lifetime"}]}', '2026-11-22 19:32:48.917428+00');
INSERT INTO jitway.spend_control VALUES ('01a204bf-2a32-7971-9467-87a7403f946b', 'program', '01a204bf-2a32-7971-9467-87a7403f946b', '{"block": {"mcc": [], "country": [], "merchant": []}, "limits": [{"amount": 5000000, "period": "month"}]}', '2026-11-22 19:32:48.953815+00');

INSERT INTO jitway.spend_window VALUES ('01a204bf-315f-7edb-b7ae-1b660199fe89', 'card', '01a204bf-2a32-7971-9467-87a7403f946b', 0, '-infinity', 0, 0, '-infinity', 0, 0, '-infinity', 0, 0, '-infinity', 0, 0, 0, 0);
INSERT INTO jitway.spend_window VALUES ('01a204bf-2a32-7971-9467-87a7403f946b', 'program', '01a204bf-2a32-7971-9467-87a7403f946b', 6, '2026-11-22', 5500, 3, '2026-11-16', 5500, 3, '2026-11-01', 5500, 3, '2026-01-01', 5500, 3, 5500, 3);
INSERT INTO jitway.spend_window VALUES ('01a204bf-3010-7d9e-af1b-bfb25003d125', 'card', '01a204bf-2a32-7971-9467-87a7403f946b', 6, '2026-11-22', 5500, 3, '2026-11-16', 5500, 3, '2026-11-01', 5500, 3, '2026-01-01', 5500, 3, 5500, 3);

INSERT INTO jitway.subscription VALUES ('jit-funding-queue', '{jit-funding.*}', '{"^\\.jit\\-funding\\.[^.]*$"}', '{500,2000,5000}', '2026-11-22 19:32:46.248538+00');
INSERT INTO jitway.subscription VALUES ('transaction-processing-queue', '{transaction.*}', '{"^\\.transaction\\.[^.]*$"}', '{500,2000,5000}', '2026-11-22 19:32:46.255505+00');
INSERT INTO jitway.subscription VALUES ('webhook-queue', '{webhook.*}', '{"^\\.webhook\\.[^.]*$"}', '{500,2000,5000}', '2026-11-22 19:32:46.258829+00');

INSERT INTO jitway.system_account VALUES ('01a204bf-2a3d-7dfe-bc08-49f53d0f16a9', '01a204bf-2a32-7971-9467-87a7403f946b', 'program_funding', 'USD');
INSERT INTO jitway.system_account VALUES ('01a204bf-2a3d-7e72-8359-7ef385ca1b41', '01a204bf-2a32-7971-9467-87a7403f946b', 'network_settlement', 'USD');
INSERT INTO jitway.system_account VALUES ('01a204bf-2a3d-7e81-8e5b-e4c1439507de', '01a204bf-2a32-7971-9467-87a7403f946b', 'fees', 'USD');
INSERT INTO jitway.system_account VALUES ('01a204bf-2a3d-7e92-a011-acdb451a97db', '01a204bf-2a32-7971-9467-87a7403f946b', 'disputes', 'USD');
INSERT INTO jitway.system_account VALUES ('01a204bf-2a3d-7ea8-ac24-75da0ca57ca8', '01a204bf-2a32-7971-9467-87a7403f946b', 'fx', 'USD');

INSERT INTO jitway.transfer VALUES ('01a204bf-2fd4-7cad-9519-8b28d1337d14', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'deposit', 'posted', '01a204bf-2a3d-7dfe-bc08-49f53d0f16a9', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 100000, 'USD', 0, NULL, 1, NULL, '2026-11-22 19:32:48.212875+00');
INSERT INTO jitway.transfer VALUES ('01a204bf-35de-7048-9543-bb88d9fe36cd', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'capture', 'posted', '01a204bf-2f59-70ce-94bc-00a418e3f03b', '01a204bf-2a3d-7e72-8359-7ef385ca1b41', 1500, 'USD', -2000, '01a204bf-3447-7c00-ace1-fa4a6c3b4176', 4, NULL, '2026-11-22 19:32:49.757905+00');
INSERT INTO jitway.transfer VALUES ('01a204bf-3725-7a81-9765-f5f6f75204eb', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'capture', 'posted', '01a204bf-2f59-70ce-94bc-00a418e3f03b', '01a204bf-2a3d-7e72-8359-7ef385ca1b41', 500, 'USD', -500, '01a204bf-3606-78e4-88a3-26bcd7019338', 6, NULL, '2026-11-22 19:32:50.085569+00');
INSERT INTO jitway.transfer VALUES ('01a204bf-388e-7e79-837a-f4beddc0183b', '01a204bf-2a32-7971-9467-87a7403f946b', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 'reversal', 'pending', '01a204bf-2a3d-7e72-8359-7ef385ca1b41', '01a204bf-2f59-70ce-94bc-00a418e3f03b', 700, 'USD', -700, '01a204bf-3750-7221-a38a-ec02ed31110b', 8, NULL, '2026-11-22 19:32:50.446775+00');

SELECT pg_catalog.setval('jitway.dead_letter_position_seq', 1, false);

SELECT pg_catalog.setval('jitway.delivery_position_seq', 12, true);

SELECT pg_catalog.setval('jitway.delivery_token', 11, true);

SELECT pg_catalog.setval('jitway.outbox_position', 16, true);

SELECT pg_catalog.setval('jitway.outbox_token', 13, true);

ALTER TABLE ONLY jitway.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.answer
    ADD CONSTRAINT answer_pkey PRIMARY KEY (scope, key);

ALTER TABLE ONLY jitway.api_key
    ADD CONSTRAINT api_key_is_unique UNIQUE (digest);

ALTER TABLE ONLY jitway.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.archive
    ADD CONSTRAINT archive_pkey PRIMARY KEY (collection, id);

ALTER TABLE ONLY jitway.archive_authorizations
    ADD CONSTRAINT archive_authorizations_pkey PRIMARY KEY (collection, id);

ALTER TABLE ONLY jitway.archive_transactions
    ADD CONSTRAINT archive_transactions_pkey PRIMARY KEY (collection, id);

ALTER TABLE ONLY jitway.archive_webhooks
    ADD CONSTRAINT archive_webhooks_pkey PRIMARY KEY (collection, id);

ALTER TABLE ONLY jitway.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.card
    ADD CONSTRAINT card_external_id_is_unique UNIQUE (program_id, external_id);

ALTER TABLE ONLY jitway.card
    ADD CONSTRAINT card_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.cardholder
    ADD CONSTRAINT cardholder_external_id_is_unique UNIQUE (program_id, external_id);

ALTER TABLE ONLY jitway.cardholder
    ADD CONSTRAINT cardholder_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY jitway.decision
    ADD CONSTRAINT decision_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY jitway.hold
    ADD CONSTRAINT hold_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.idempotency_key
    ADD CONSTRAINT idempotency_key_pkey PRIMARY KEY (scope, key);

ALTER TABLE ONLY jitway.inbox
    ADD CONSTRAINT inbox_pkey PRIMARY KEY (consumer, event_id);

ALTER TABLE ONLY jitway.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);

ALTER TABLE ONLY jitway.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (slot, id);

ALTER TABLE ONLY jitway.outbox_0
    ADD CONSTRAINT outbox_0_pkey PRIMARY KEY (slot, id);

ALTER TABLE ONLY jitway.outbox_1
    ADD CONSTRAINT outbox_1_pkey PRIMARY KEY (slot, id);

ALTER TABLE ONLY jitway.outbox_2
    ADD CONSTRAINT outbox_2_pkey PRIMARY KEY (slot, id);

ALTER TABLE ONLY jitway.outbox_3
    ADD CONSTRAINT outbox_3_pkey PRIMARY KEY (slot, id);

ALTER TABLE ONLY jitway.outbox_claim
    ADD CONSTRAINT outbox_claim_pkey PRIMARY KEY (token);

ALTER TABLE ONLY jitway.program
    ADD CONSTRAINT program_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY jitway.spend_control
    ADD CONSTRAINT spend_control_pkey PRIMARY KEY (owner_id);

ALTER TABLE ONLY jitway.spend_window
    ADD CONSTRAINT spend_window_pkey PRIMARY KEY (owner_id);

ALTER TABLE ONLY jitway.subscription
    ADD CONSTRAINT subscription_pkey PRIMARY KEY (queue);

ALTER TABLE ONLY jitway.system_account
    ADD CONSTRAINT system_account_is_one_per_code UNIQUE (program_id, code, currency);

ALTER TABLE ONLY jitway.system_account
    ADD CONSTRAINT system_account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.transfer
    ADD CONSTRAINT transfer_pkey PRIMARY KEY (id);

ALTER TABLE ONLY jitway.webhook
    ADD CONSTRAINT webhook_is_received_once UNIQUE (scope, source, message_id);

ALTER TABLE ONLY jitway.webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (id);

CREATE INDEX account_by_cardholder ON jitway.account USING btree (cardholder_id);

CREATE INDEX answer_by_age ON jitway.answer USING brin (created_at);

CREATE INDEX archive_authorizations_by_account ON jitway.archive_authorizations USING btree (account_id, id);

CREATE INDEX archive_authorizations_by_amount ON jitway.archive_authorizations USING btree (amount, id);

CREATE INDEX archive_authorizations_by_card ON jitway.archive_authorizations USING btree (card_id, id);

CREATE INDEX archive_authorizations_by_cardholder ON jitway.archive_authorizations USING btree (cardholder_id, id);

CREATE INDEX archive_authorizations_by_decision ON jitway.archive_authorizations USING btree (decision, id);

CREATE INDEX archive_authorizations_by_instant ON jitway.archive_authorizations USING btree (occurred_at);

CREATE INDEX archive_authorizations_by_merchant ON jitway.archive_authorizations USING btree (merchant, id) WHERE (merchant IS NOT NULL);

CREATE INDEX archive_authorizations_by_program ON jitway.archive_authorizations USING btree (program_id, id);

CREATE INDEX archive_authorizations_by_reason ON jitway.archive_authorizations USING btree (reason, id) WHERE (reason IS NOT NULL);

CREATE INDEX archive_transactions_by_account ON jitway.archive_transactions USING btree (account_id, id);

CREATE INDEX archive_transactions_by_amount ON jitway.archive_transactions USING btree (amount, id);

CREATE INDEX archive_transactions_by_card ON jitway.archive_transactions USING btree (card_id, id) WHERE (card_id IS NOT NULL);

CREATE INDEX archive_transactions_by_cardholder ON jitway.archive_transactions USING btree (cardholder_id, id);

CREATE INDEX archive_transactions_by_instant ON jitway.archive_transactions USING btree (occurred_at);

CREATE INDEX archive_transactions_by_merchant ON jitway.archive_transactions USING btree (merchant, id) WHERE (merchant IS NOT NULL);

CREATE INDEX archive_transactions_by_program ON jitway.archive_transactions USING btree (program_id, id);

CREATE INDEX archive_webhooks_by_instant ON jitway.archive_webhooks USING btree (occurred_at);

CREATE INDEX archive_webhooks_by_program ON jitway.archive_webhooks USING btree (program_id, id);

CREATE UNIQUE INDEX audit_by_account ON jitway.audit USING btree (account_id, account_version) WHERE (account_version IS NOT NULL);

CREATE INDEX audit_by_subject ON jitway.audit USING btree (subject, id);

CREATE INDEX card_by_account ON jitway.card USING btree (account_id);

CREATE INDEX card_by_cardholder ON jitway.card USING btree (cardholder_id);

CREATE INDEX dead_letter_by_age ON jitway.dead_letter USING btree (queue, last_failed_at, "position");

CREATE INDEX dead_letter_by_id ON jitway.dead_letter USING btree (queue, id);

CREATE INDEX decision_by_account ON jitway.decision USING btree (account_id, id);

CREATE INDEX delivery_by_due ON jitway.delivery USING btree (queue, due_at, "position");

CREATE INDEX hold_by_expiry ON jitway.hold USING btree (expires_at) WHERE (state = 'active'::text);

CREATE INDEX idempotency_key_by_age ON jitway.idempotency_key USING brin (subject);

CREATE INDEX outbox_waiting ON ONLY jitway.outbox USING btree ("position") WHERE (published_at IS NULL);

CREATE INDEX outbox_0_position_idx ON jitway.outbox_0 USING btree ("position") WHERE (published_at IS NULL);

CREATE INDEX outbox_1_position_idx ON jitway.outbox_1 USING btree ("position") WHERE (published_at IS NULL);

CREATE INDEX outbox_2_position_idx ON jitway.outbox_2 USING btree ("position") WHERE (published_at IS NULL);

CREATE INDEX outbox_3_position_idx ON jitway.outbox_3 USING btree ("position") WHERE (published_at IS NULL);

CREATE UNIQUE INDEX transfer_by_account ON jitway.transfer USING btree (account_id, account_version);

CREATE INDEX transfer_by_authorization ON jitway.transfer USING btree (authorization_id) WHERE (authorization_id IS NOT NULL);

CREATE INDEX webhook_by_age ON jitway.webhook USING brin (received_at);

ALTER INDEX jitway.archive_pkey ATTACH PARTITION jitway.archive_authorizations_pkey;

ALTER INDEX jitway.archive_pkey ATTACH PARTITION jitway.archive_transactions_pkey;

ALTER INDEX jitway.archive_pkey ATTACH PARTITION jitway.archive_webhooks_pkey;

ALTER INDEX jitway.outbox_pkey ATTACH PARTITION jitway.outbox_0_pkey;

ALTER INDEX jitway.outbox_waiting ATTACH PARTITION jitway.outbox_0_position_idx;

ALTER INDEX jitway.outbox_pkey ATTACH PARTITION jitway.outbox_1_pkey;

ALTER INDEX jitway.outbox_waiting ATTACH PARTITION jitway.outbox_1_position_idx;

ALTER INDEX jitway.outbox_pkey ATTACH PARTITION jitway.outbox_2_pkey;

ALTER INDEX jitway.outbox_waiting ATTACH PARTITION jitway.outbox_2_position_idx;

ALTER INDEX jitway.outbox_pkey ATTACH PARTITION jitway.outbox_3_pkey;

ALTER INDEX jitway.outbox_waiting ATTACH PARTITION jitway.outbox_3_position_idx;

ALTER TABLE ONLY jitway.account
    ADD CONSTRAINT account_cardholder_id_fkey FOREIGN KEY (cardholder_id) REFERENCES jitway.cardholder(id);

ALTER TABLE ONLY jitway.account
    ADD CONSTRAINT account_program_id_fkey FOREIGN KEY (program_id) REFERENCES jitway.program(id);

ALTER TABLE ONLY jitway.api_key
    ADD CONSTRAINT api_key_program_id_fkey FOREIGN KEY (program_id) REFERENCES jitway.program(id);

ALTER TABLE ONLY jitway.card
    ADD CONSTRAINT card_account_id_fkey FOREIGN KEY (account_id) REFERENCES jitway.account(id);

ALTER TABLE ONLY jitway.card
    ADD CONSTRAINT card_cardholder_id_fkey FOREIGN KEY (cardholder_id) REFERENCES jitway.cardholder(id);

ALTER TABLE ONLY jitway.card
    ADD CONSTRAINT card_program_id_fkey FOREIGN KEY (program_id) REFERENCES jitway.program(id);

ALTER TABLE ONLY jitway.cardholder
    ADD CONSTRAINT cardholder_program_id_fkey FOREIGN KEY (program_id) REFERENCES jitway.program(id);

ALTER TABLE ONLY jitway.spend_control
    ADD CONSTRAINT spend_control_program_id_fkey FOREIGN KEY (program_id) REFERENCES jitway.program(id);

ALTER TABLE ONLY jitway.system_account
    ADD CONSTRAINT system_account_program_id_fkey FOREIGN KEY (program_id) REFERENCES jitway.program(id);
