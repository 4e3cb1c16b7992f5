-- +goose Up

-- Checkpoints of the log that are, or are to be, on a chain: one row for each number in a contract. Another contract is another series.
CREATE TABLE anchor (
    chain_id     bigint      NOT NULL,
    contract     bytea       NOT NULL CHECK (octet_length(contract) = 20),
    seq          bigint      NOT NULL CHECK (seq > 0), -- the contract's number
    hour         bigint      NOT NULL, -- since 1970 UTC, as the transaction says
    size         bigint      NOT NULL CHECK (size > 0), -- of the log
    root         bytea       NOT NULL CHECK (octet_length(root) = 32),
    prev_root    bytea       NOT NULL CHECK (octet_length(prev_root) = 32),
    checkpoint   bytea       NOT NULL, -- the signed note
    state        smallint    NOT NULL, -- 1 built, 2 signed, 3 sent, 4 mined, 5 safe, 6 finalized, 7 orphaned, 8 failed, 9 vanished
    version      bigint      NOT NULL DEFAULT 1, -- rises with every change: of two hubs that change a row, one does
    adopted      boolean     NOT NULL DEFAULT false, -- read back from the chain: this database did not know of it
    vanished     integer     NOT NULL DEFAULT 0, -- how often it was final and then gone
    late         text        NOT NULL DEFAULT '', -- why it was mined late; empty: it was not
    due_at       timestamptz NOT NULL,
    built_at     timestamptz NOT NULL,
    mined_at     timestamptz, -- when the hub saw it in a block, and so the next two
    finalized_at timestamptz,
    vanished_at  timestamptz, -- the last time
    tx_hash      bytea, -- the transaction in the block; null as long as it is in none, and so the next three
    block_number bigint,
    block_hash   bytea,
    block_time   timestamptz,
    PRIMARY KEY (chain_id, contract, seq),
    CHECK ((state IN (4, 5, 6)) = (tx_hash IS NOT NULL AND block_number IS NOT NULL AND block_hash IS NOT NULL AND block_time IS NOT NULL))
);
-- No size of the log is anchored twice, and the anchor that covers an entry is found by size.
CREATE UNIQUE INDEX anchor_size ON anchor (chain_id, contract, size);
-- One new anchor is on its way at a time, whoever makes it.
CREATE UNIQUE INDEX anchor_flight ON anchor (chain_id, contract) WHERE state IN (1, 2, 3);
CREATE INDEX anchor_open ON anchor (chain_id, contract, seq) WHERE state <> 6;

-- Signed transactions, stored before they are sent.
CREATE TABLE anchor_tx (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain_id  bigint      NOT NULL,
    contract  bytea       NOT NULL,
    seq       bigint      NOT NULL,
    sender    bytea       NOT NULL CHECK (octet_length(sender) = 20),
    nonce     bigint      NOT NULL,
    max_fee   bigint      NOT NULL, -- wei for a unit of gas, and so the next
    tip       bigint      NOT NULL,
    raw       bytea       NOT NULL,
    hash      bytea       NOT NULL CHECK (octet_length(hash) = 32),
    state     smallint    NOT NULL, -- 1 signed, 2 sent, 3 replaced, 4 mined, 5 reverted, 6 void: the nonce went to another one
    signed_at timestamptz NOT NULL,
    waits_at  timestamptz NOT NULL, -- since when it waits for a block: it was signed, or has lost its block
    sent_at   timestamptz, -- the last time
    UNIQUE (chain_id, hash),
    FOREIGN KEY (chain_id, contract, seq) REFERENCES anchor (chain_id, contract, seq)
);
CREATE INDEX anchor_tx_seq ON anchor_tx (chain_id, contract, seq, id);
-- Of the transactions with one nonce, one is on its way.
CREATE UNIQUE INDEX anchor_tx_live ON anchor_tx (chain_id, sender, nonce) WHERE state IN (1, 2);
CREATE INDEX anchor_tx_nonce ON anchor_tx (chain_id, sender, nonce);

-- How anchoring stands, one row for each contract: what the process that did the last run saw.
CREATE TABLE anchor_status (
    chain_id        bigint      NOT NULL,
    contract        bytea       NOT NULL,
    account         bytea       NOT NULL, -- that pays
    code            text        NOT NULL, -- what is wrong; empty: nothing
    detail          text        NOT NULL, -- the same in words, with what to do
    since           timestamptz NOT NULL, -- of the code
    late            text        NOT NULL, -- the last thing that was wrong while an anchor was due; empty: nothing since the last one was mined
    checked_at      timestamptz NOT NULL, -- the last run
    answered_at     timestamptz, -- the last run in which the chain answered
    covered_at      timestamptz, -- the last time that the whole log was anchored
    log_size        bigint      NOT NULL,
    latest_block    bigint      NOT NULL, -- as last answered, and so the next three
    safe_block      bigint      NOT NULL,
    finalized_block bigint      NOT NULL,
    head_seq        bigint      NOT NULL,
    PRIMARY KEY (chain_id, contract)
);

-- +goose Down
DROP TABLE anchor_status;
DROP TABLE anchor_tx;
DROP TABLE anchor;
