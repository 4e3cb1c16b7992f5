-- +goose Up

-- Tokens with which sites join: one row each, the text itself is kept nowhere. A token is open until it is used, revoked, refused or expired.
-- Where a person has to approve, the first keys that come with it claim it, and the row waits for the decision. Written by package enrol only.
CREATE TABLE enrol_token (
    id              text        PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 32),
    hash            bytea       NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the token's text
    site_name       text        NOT NULL CHECK (length(site_name) BETWEEN 1 AND 100),
    source          cidr,                 -- addresses that it may be used from; null: any
    approval        boolean     NOT NULL, -- a person compares fingerprints first
    replace_key     boolean     NOT NULL, -- a known site may come with another evidence key
    created_at      timestamptz NOT NULL,
    created_by      text        NOT NULL,
    expires_at      timestamptz NOT NULL CHECK (expires_at > created_at),
    revoked_at      timestamptz,
    revoked_by      text,
    claimed_at      timestamptz,
    claimed_keys    bytea       CHECK (length(claimed_keys) = 32), -- identity.Request.KeysHash
    claimed_from    text,
    claimed_version text,
    decided_at      timestamptz,
    approved        boolean,
    decided_by      text,
    used_at         timestamptz,
    used_keys       bytea       CHECK (length(used_keys) = 32),
    used_from       text,
    site_id         uuid        REFERENCES site (id), -- that joined with it
    CHECK ((used_at IS NULL) = (used_keys IS NULL)),
    CHECK ((claimed_at IS NULL) = (claimed_keys IS NULL)),
    CHECK ((decided_at IS NULL) = (approved IS NULL))
);
CREATE INDEX enrol_token_created ON enrol_token (created_at, id);
CREATE INDEX enrol_token_expires ON enrol_token (expires_at);

-- +goose Down
DROP TABLE enrol_token;
