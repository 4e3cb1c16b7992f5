-- +goose Up

-- The ledger: one row per batch ever accepted. Its key is what makes delivery exactly-once. Header, signature and payload are the
-- signed bytes themselves and never change.
CREATE TABLE batch (
    site_id     uuid        NOT NULL,
    spool_id    uuid        NOT NULL,
    seq         bigint      NOT NULL CHECK (seq > 0),
    kind        smallint    NOT NULL, -- evidence.Kind
    disposition smallint    NOT NULL, -- 1 stored, 2 quarantined: its payload is in dead_letter
    link_state  smallint    NOT NULL, -- of the link to the batch before: 0 pending, 1 ok, 2 broken
    miners      integer     NOT NULL,
    samples     integer     NOT NULL,
    first_at    timestamptz NOT NULL, -- times of the first and last sample, the agent's clock
    last_at     timestamptz NOT NULL,
    received_at timestamptz NOT NULL, -- the hub's time in the acknowledgement
    key_id      bytea       NOT NULL,
    header_hash bytea       NOT NULL,
    header      bytea       NOT NULL,
    signature   bytea       NOT NULL,
    payload     bytea, -- as sent, compressed; null in quarantine
    PRIMARY KEY (site_id, spool_id, seq)
);
-- Already compressed: a second compression would cost time and gain nothing.
ALTER TABLE batch ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE INDEX batch_pending_link ON batch (site_id, spool_id, seq) WHERE link_state = 0;
CREATE INDEX batch_broken_link ON batch (site_id, spool_id, seq) WHERE link_state = 2;

-- What the ledger holds of each spool, in numbers that need no scan of it.
CREATE TABLE batch_total (
    site_id          uuid        NOT NULL,
    spool_id         uuid        NOT NULL,
    batches          bigint      NOT NULL,
    samples          bigint      NOT NULL,
    quarantined      bigint      NOT NULL,
    newest_seq       bigint      NOT NULL,
    last_received_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, spool_id)
) WITH (fillfactor = 50);

-- Proof that a site signed two batches with one name: evidence.Fork. A is the stored one.
CREATE TABLE batch_fork (
    site_id     uuid        NOT NULL,
    spool_id    uuid        NOT NULL,
    seq         bigint      NOT NULL,
    hash_b      bytea       NOT NULL,
    header_a    bytea       NOT NULL,
    signature_a bytea       NOT NULL,
    header_b    bytea       NOT NULL,
    signature_b bytea       NOT NULL,
    found_at    timestamptz NOT NULL,
    PRIMARY KEY (site_id, spool_id, seq, hash_b)
);

-- Authentic batches whose payload could not be used: bytes and reason, for a person.
CREATE TABLE dead_letter (
    site_id     uuid        NOT NULL,
    spool_id    uuid        NOT NULL,
    seq         bigint      NOT NULL,
    header      bytea       NOT NULL,
    signature   bytea       NOT NULL,
    payload     bytea       NOT NULL,
    reason      text        NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, spool_id, seq)
);
ALTER TABLE dead_letter ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Ranges of batches that a site says it had to drop: evidence.Gap. gap_seq is the batch of kind gap, in the agent's current
-- spool, that says so.
CREATE TABLE batch_gap (
    site_id     uuid        NOT NULL,
    spool_id    uuid        NOT NULL, -- of the dropped batches
    first_seq   bigint      NOT NULL,
    last_seq    bigint      NOT NULL CHECK (last_seq >= first_seq),
    first_at    timestamptz NOT NULL, -- times of the dropped samples, the agent's clock
    last_at     timestamptz NOT NULL,
    miners      bigint      NOT NULL,
    samples     bigint      NOT NULL,
    reason      smallint    NOT NULL, -- evidence.GapReason
    last_hash   bytea       NOT NULL, -- of the last dropped header
    gap_spool   uuid        NOT NULL,
    gap_seq     bigint      NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, gap_spool, gap_seq)
);
CREATE INDEX batch_gap_last ON batch_gap (site_id, spool_id, last_seq);
