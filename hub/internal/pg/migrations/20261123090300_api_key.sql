-- +goose Up

-- Keys of people and programs that call the API. The key itself is shown once and never stored:
-- hash is SHA-256 of its text. Written by package access only.
CREATE TABLE api_key (
    id                uuid        PRIMARY KEY,
    name              text        NOT NULL,
    hash              bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    permissions       text[]      NOT NULL,
    bootstrap         boolean     NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL,
    expires_at        timestamptz,
    revoked_at        timestamptz,
    last_used_at      timestamptz,
    last_used_address text
);

-- At most one owner key made by the bootstrap command works at a time.
CREATE UNIQUE INDEX api_key_one_bootstrap ON api_key (bootstrap) WHERE bootstrap AND revoked_at IS NULL;

-- Sign-ins of the page. A session is worth no more than its key: it ends with it.
CREATE TABLE api_session (
    id         uuid        PRIMARY KEY,
    key_id     uuid        NOT NULL REFERENCES api_key (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX api_session_key ON api_session (key_id, expires_at);
CREATE INDEX api_session_expiry ON api_session (expires_at);

-- +goose Down
DROP TABLE api_session;
DROP TABLE api_key;
