-- +goose Up

-- Entries that were committed with what they tell of and have no place in the chain yet. The hub moves them into audit_entry
-- within about a second. Written by package audit only.
CREATE TABLE audit_pending (
    event_id   uuid        PRIMARY KEY,
    at         timestamptz NOT NULL, -- whole milliseconds
    level      text        NOT NULL,
    category   text        NOT NULL,
    action     text        NOT NULL,
    user_id    text        NOT NULL,
    user_email text        NOT NULL,
    user_role  text        NOT NULL,
    ip_address text        NOT NULL,
    status     text        NOT NULL,
    details    json        NOT NULL  -- json, not jsonb: the hash covers the very bytes
);

CREATE INDEX audit_pending_at ON audit_pending (at, event_id);

-- The chain: each hash covers the hash before it and the whole entry, its place included. Rows are never updated.
CREATE TABLE audit_entry (
    seq        bigint      PRIMARY KEY CHECK (seq > 0), -- contiguous from 1
    hash       bytea       NOT NULL CHECK (octet_length(hash) = 32),
    event_id   uuid        NOT NULL UNIQUE,
    at         timestamptz NOT NULL,
    level      text        NOT NULL,
    category   text        NOT NULL,
    action     text        NOT NULL,
    user_id    text        NOT NULL,
    user_email text        NOT NULL,
    user_role  text        NOT NULL,
    ip_address text        NOT NULL,
    status     text        NOT NULL,
    details    json        NOT NULL
);

CREATE INDEX audit_entry_user ON audit_entry (user_id, seq);
CREATE INDEX audit_entry_action ON audit_entry (action, seq);
CREATE INDEX audit_entry_category ON audit_entry (category, seq);
CREATE INDEX audit_entry_level ON audit_entry (level, seq);

-- +goose Down
DROP TABLE audit_entry;
DROP TABLE audit_pending;
