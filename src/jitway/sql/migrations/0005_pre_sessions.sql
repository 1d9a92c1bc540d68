-- Logins of the live page. No secret is kept: `id` and `digest` are SHA-256 of what the browser has.
CREATE TABLE session (
    id         bytea       PRIMARY KEY CONSTRAINT session_id_is_a_digest CHECK (length(id) = 32),
    key_id     uuid        NOT NULL REFERENCES api_key,
    created_at timestamptz NOT NULL,
    -- Written once a minute while the page is open; a session that nobody uses ends by itself.
    used_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_by_key ON session (key_id, created_at);
CREATE INDEX session_by_expiry ON session (expires_at);

-- Each lets one browser in once, within minutes, as the key it was made for.
CREATE TABLE login_link (
    digest     bytea       PRIMARY KEY CONSTRAINT login_link_digest_is_one CHECK (length(digest) = 32),
    key_id     uuid        NOT NULL REFERENCES api_key,
    expires_at timestamptz NOT NULL
);
CREATE INDEX login_link_by_expiry ON login_link (expires_at);
