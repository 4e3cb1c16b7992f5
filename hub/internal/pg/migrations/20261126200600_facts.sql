-- +goose Up

-- Whether a batch came from an agent whose clock was, at that moment, more than 30 s from the hub's. Null: nobody measured.
ALTER TABLE batch ADD COLUMN skewed boolean;

-- Hours that sites have signed: evidence.Hour, one for each site, hour and chain of batches. The batch itself stands in the ledger.
CREATE TABLE site_hour (
    site_id         uuid        NOT NULL,
    hour            integer     NOT NULL, -- since 1970 UTC
    spool_id        uuid        NOT NULL, -- the chain that the leaves are of
    hour_spool      uuid        NOT NULL, -- where the batch of kind hour stands
    hour_seq        bigint      NOT NULL,
    header_hash     bytea       NOT NULL,
    root            bytea       NOT NULL, -- as signed, and so the next three
    leaves          integer     NOT NULL,
    first_seq       bigint      NOT NULL,
    last_seq        bigint      NOT NULL,
    state           smallint    NOT NULL, -- 0 pending, 1 agreed, 2 disputed, 3 incomplete: nobody can recompute it
    reason          text        NOT NULL, -- what it waits for, or why it is not agreed
    twice           boolean     NOT NULL, -- the site signed another root of it: it cannot be agreed
    computed_root   bytea, -- from the batches
    computed_leaves integer,
    skew_slots      smallint    NOT NULL, -- bit i: a batch with polls of slot i was skewed
    received_at     timestamptz NOT NULL, -- the hub's time when the batch of kind hour came
    complete_at     timestamptz, -- when the last of what counts had come
    judged_at       timestamptz,
    look_at         timestamptz, -- when it is to be judged next; null: for good
    PRIMARY KEY (site_id, hour, spool_id)
);
CREATE INDEX site_hour_look ON site_hour (site_id, look_at) WHERE look_at IS NOT NULL;
CREATE INDEX site_hour_hour ON site_hour (hour);

-- The leaves of an hour as the hub has computed them: whole leaves in order of miner ids, compressed, so many to a page that one miner's is read quickly.
CREATE TABLE leaf_page (
    site_id     uuid     NOT NULL,
    hour        integer  NOT NULL,
    spool_id    uuid     NOT NULL,
    first_miner uuid     NOT NULL,
    last_miner  uuid     NOT NULL,
    miners      smallint NOT NULL,
    payload     bytea    NOT NULL,
    PRIMARY KEY (site_id, hour, spool_id, first_miner)
);
-- Already compressed: a second compression would cost time and gain nothing.
ALTER TABLE leaf_page ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Miners' salt keys, sealed with the hub's password. Deleting one makes its miner's leaves unreadable wherever only their hashes are.
CREATE TABLE miner_salt (
    site_id  uuid        NOT NULL,
    miner_id uuid        NOT NULL,
    sealed   bytea       NOT NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, miner_id)
);

-- Hours whose facts have changed since verdicts were made of them. No key, as in block_dirty: transactions never wait for each other here.
CREATE TABLE facts_changed (
    site_id uuid    NOT NULL,
    hour    integer NOT NULL
);

-- Where a site's word and its batches, or two of its words, do not agree. A dispute stays.
CREATE TABLE hour_dispute (
    id           bigint      GENERATED ALWAYS AS IDENTITY,
    site_id      uuid        NOT NULL,
    hour         integer     NOT NULL,
    spool_id     uuid        NOT NULL,
    kind         smallint    NOT NULL, -- 1 root: the batches give another one, 2 two roots: the site signed both
    reason       text        NOT NULL,
    found_at     timestamptz NOT NULL,
    hour_spool   uuid        NOT NULL, -- the batch of kind hour
    hour_seq     bigint      NOT NULL,
    header_hash  bytea       NOT NULL,
    root         bytea       NOT NULL,
    other_spool  uuid, -- the second one
    other_seq    bigint,
    other_header bytea       NOT NULL, -- its hash; empty for kind 1
    other_root   bytea       NOT NULL, -- computed, or signed in the second
    PRIMARY KEY (site_id, id),
    UNIQUE (site_id, hour, spool_id, kind, other_root)
);
CREATE INDEX hour_dispute_id ON hour_dispute (id);
