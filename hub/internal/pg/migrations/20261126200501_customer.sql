-- +goose Up

-- Whom the hub's operator serves. These tables are written by package customer only. Times named _ms are ms since 1970 UTC, as contracts and
-- statements count them; the others are the hub's.
CREATE TABLE customer (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL
);

CREATE TABLE contract (
    id          uuid        PRIMARY KEY,
    customer_id uuid        NOT NULL REFERENCES customer (id),
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    created_at  timestamptz NOT NULL,
    UNIQUE (customer_id, name)
);
CREATE INDEX contract_name ON contract (name, id);

-- Terms, in the canonical encoding of package sla. A version is never changed: another one follows it.
CREATE TABLE contract_version (
    contract_id uuid        NOT NULL REFERENCES contract (id),
    version     integer     NOT NULL CHECK (version >= 1),
    from_ms     bigint      NOT NULL, -- also in terms
    terms       bytea       NOT NULL,
    hash        bytea       NOT NULL CHECK (length(hash) = 32),
    recorded_at timestamptz NOT NULL,
    recorded_by text        NOT NULL,
    PRIMARY KEY (contract_id, version),
    UNIQUE (contract_id, from_ms)
);

-- Ranges of uuids exist so that the constraint below can compare ids without an extension, which not every database server has.
CREATE TYPE uuidrange AS RANGE (subtype = uuid);

-- Which miner belongs to which contract from when to when. Rows are never removed: what was called off has to_ms = from_ms.
CREATE TABLE contract_miner (
    id          uuid        PRIMARY KEY,
    contract_id uuid        NOT NULL REFERENCES contract (id),
    site_id     uuid        NOT NULL REFERENCES site (id),
    miner_id    uuid        NOT NULL, -- refers to miner, which may be distributed by site while this is not: package customer looks
    from_ms     bigint      NOT NULL,
    to_ms       bigint      CHECK (to_ms >= from_ms), -- null: open
    rate_mhs    bigint      NOT NULL CHECK (rate_mhs >= 0), -- 0: the terms'
    recorded_at timestamptz NOT NULL,
    recorded_by text        NOT NULL,
    -- One miner has one contract at a time. Package customer refuses an overlap before, naming both; this holds whoever writes.
    -- The hash is there for the index's sake: it can keep numbers near each other, and ids not, so that it would look through all rows for each.
    CONSTRAINT contract_miner_once EXCLUDE USING gist (
        int8range(uuid_hash_extended(miner_id, 0) / 2, uuid_hash_extended(miner_id, 0) / 2, '[]') WITH &&,
        uuidrange(miner_id, miner_id, '[]') WITH &&, uuidrange(site_id, site_id, '[]') WITH &&, int8range(from_ms, to_ms) WITH &&)
);
CREATE INDEX contract_miner_contract ON contract_miner (contract_id, site_id, miner_id, from_ms, id);
CREATE INDEX contract_miner_miner ON contract_miner (site_id, miner_id, from_ms);

-- Windows in which miners may stand still, as they were recorded. A row with ends shortens the one that it names to its own to_ms; rows are
-- never changed.
CREATE TABLE excuse (
    id          uuid        PRIMARY KEY,
    kind        text        NOT NULL CHECK (kind IN ('curtailment', 'maintenance')),
    site_id     uuid        NOT NULL REFERENCES site (id),
    miners      uuid[]      NOT NULL, -- ascending; none: all of the site
    from_ms     bigint      NOT NULL,
    to_ms       bigint      NOT NULL CHECK (to_ms >= from_ms),
    recorded_at timestamptz NOT NULL, -- whole ms
    recorded_by text        NOT NULL,
    note        text        NOT NULL CHECK (length(note) <= 500),
    ends        uuid        REFERENCES excuse (id),
    CHECK (ends IS NOT NULL OR to_ms > from_ms)
);
CREATE INDEX excuse_site ON excuse (site_id, from_ms);
CREATE INDEX excuse_from ON excuse (from_ms, id) WHERE ends IS NULL;
CREATE INDEX excuse_ends ON excuse (ends) WHERE ends IS NOT NULL;

-- A key of a customer reads that customer's rows and nothing else. The previous hub has no route for these permissions. No key may be wider,
-- whoever writes.
ALTER TABLE api_key
    ADD COLUMN customer_id uuid REFERENCES customer (id), -- null: the operator's
    ADD CONSTRAINT api_key_customer CHECK (customer_id IS NULL OR permissions <@ ARRAY['contracts:read', 'sla:read', 'statements:read']);

-- +goose Down
ALTER TABLE api_key DROP CONSTRAINT api_key_customer, DROP COLUMN customer_id;
DROP TABLE excuse;
DROP TABLE contract_miner;
DROP TYPE uuidrange;
DROP TABLE contract_version;
DROP TABLE contract;
DROP TABLE customer;
