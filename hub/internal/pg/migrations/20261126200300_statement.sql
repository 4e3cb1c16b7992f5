-- +goose Up

-- Months of a contract whose terms, miners or excuses have changed since their days were computed, written in the transaction that changes them. No key:
-- transactions never wait for each other here, and a note that comes while the one before is being consumed stays.
CREATE TABLE sla_dirty (
    contract_id uuid    NOT NULL,
    month       integer NOT NULL -- UTC, counted since January of the year 0
);

-- One row for each contract, site and UTC day with miners of the contract; its lock is held while their days are computed.
CREATE TABLE sla_group (
    contract_id uuid        NOT NULL,
    site_id     uuid        NOT NULL,
    day         integer     NOT NULL, -- since 1970 UTC
    dirty       boolean     NOT NULL, -- something that the days are computed from has changed
    due_at      timestamptz,          -- when time alone changes them: a slot begins to count, or its backfill deadline passes; null: never again
    computed_at timestamptz,          -- null: not yet
    PRIMARY KEY (contract_id, day, site_id)
);
CREATE INDEX sla_group_site ON sla_group (site_id, day);
CREATE INDEX sla_group_dirty ON sla_group (day) WHERE dirty;
CREATE INDEX sla_group_due ON sla_group (due_at) WHERE due_at IS NOT NULL;

-- Until which day groups were made for a contract.
CREATE TABLE sla_through (
    contract_id uuid    PRIMARY KEY,
    day         integer NOT NULL -- since 1970 UTC
);

-- Months of contracts with miners in them: those that are over have a statement or wait for one.
CREATE TABLE sla_month (
    contract_id uuid    NOT NULL,
    month       integer NOT NULL, -- as in sla_dirty
    PRIMARY KEY (contract_id, month)
);

-- What one miner's UTC day has come to under one contract: kept, and always equal to what package sla makes of the facts, terms, assignments and excuses.
CREATE TABLE sla_day (
    contract_id uuid    NOT NULL,
    site_id     uuid    NOT NULL,
    miner_id    uuid    NOT NULL,
    day         integer NOT NULL, -- since 1970 UTC
    sums        bytea   NOT NULL, -- counts, hashes done and needed (package statement, sums)
    states      bytea   NOT NULL, -- of 288 slots, 4 bits each (package statement, pack)
    PRIMARY KEY (contract_id, day, site_id, miner_id)
);
-- Short and of no pattern: a compression would cost time and gain little.
ALTER TABLE sla_day ALTER COLUMN states SET STORAGE PLAIN, ALTER COLUMN sums SET STORAGE PLAIN;

-- Statements as they were signed: canonical bytes of package sla. The newest of a contract and month counts. What stands beside the bytes stands in them too, and is
-- there for lists.
CREATE TABLE statement (
    hash             bytea       PRIMARY KEY CHECK (octet_length(hash) = 32), -- SHA-256 of bytes
    contract_id      uuid        NOT NULL,
    customer_id      uuid        NOT NULL,
    month            integer     NOT NULL, -- UTC, counted since January of the year 0
    seq              integer     NOT NULL CHECK (seq > 0), -- 1 is the first of its month, further ones are restatements
    bytes            bytea       NOT NULL,
    signature        bytea       NOT NULL,
    key_id           bytea       NOT NULL, -- of the hub's evidence key
    public_key       bytea       NOT NULL,
    issued_at        timestamptz NOT NULL,
    accept_until     timestamptz, -- facts that came until then count, whatever the terms' deadline; null: the deadline
    supersedes       bytea,
    reason           text        NOT NULL,
    availability_ppm bigint,
    met              boolean     NOT NULL,
    credit_bp        bigint      NOT NULL,
    credit_minor     bigint      NOT NULL,
    currency         text        NOT NULL,
    UNIQUE (contract_id, month, seq)
);
CREATE INDEX statement_issued ON statement (issued_at, hash);

-- +goose StatementBegin
CREATE FUNCTION statement_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a statement is never changed or deleted: hashinsight-hub statement restate issues one that supersedes it';
END $$;
-- +goose StatementEnd
CREATE TRIGGER statement_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON statement FOR EACH STATEMENT EXECUTE FUNCTION statement_stays();
