-- +goose Up

-- A place with one active agent. Times in this schema are the hub's, given as parameters, unless a column says otherwise.
CREATE TABLE site (
    id         uuid PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    created_at timestamptz NOT NULL
);

-- Evidence keys of a site. A revoked key stays: batches that it signed must remain checkable.
CREATE TABLE site_key (
    site_id    uuid        NOT NULL REFERENCES site (id),
    key_id     bytea       NOT NULL CHECK (length(key_id) = 8),
    public_key bytea       NOT NULL CHECK (length(public_key) = 32),
    added_at   timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (site_id, key_id)
);

-- The site's agent as its last stream described it. stream_id with lease_until is the lease that keeps a second agent out:
-- whoever holds another stream_id has been replaced.
CREATE TABLE agent (
    site_id               uuid PRIMARY KEY REFERENCES site (id),
    stream_id             uuid        NOT NULL,
    connected             boolean     NOT NULL,
    lease_until           timestamptz NOT NULL,
    spool_id              uuid        NOT NULL,
    version               text        NOT NULL,
    remote_address        text        NOT NULL,
    connected_at          timestamptz NOT NULL,
    last_seen_at          timestamptz NOT NULL,
    clock_skew_ms         bigint      NOT NULL, -- agent's clock minus hub's, at its hello
    poll_interval_ms      integer     NOT NULL CHECK (poll_interval_ms > 0),
    oldest_pending_seq    bigint      NOT NULL,
    newest_seq            bigint      NOT NULL,
    certificate_not_after timestamptz
) WITH (fillfactor = 50);

-- A miner's description, as its site signed it. info_at is the time of the newest sample of the batch that brought it (the agent's clock).
CREATE TABLE miner (
    site_id          uuid        NOT NULL REFERENCES site (id),
    id               uuid        NOT NULL,
    address          text        NOT NULL DEFAULT '',
    mac              text        NOT NULL DEFAULT '',
    serial           text        NOT NULL DEFAULT '',
    maker            text        NOT NULL DEFAULT '',
    model            text        NOT NULL DEFAULT '',
    firmware         text        NOT NULL DEFAULT '',
    firmware_version text        NOT NULL DEFAULT '',
    hostname         text        NOT NULL DEFAULT '',
    first_seen_at    timestamptz NOT NULL,
    info_at          timestamptz NOT NULL,
    PRIMARY KEY (site_id, id)
);
CREATE INDEX miner_id ON miner (id);

-- The latest poll of each miner, updated in place. Only the key is indexed, so that every update stays within its page.
-- When the latest poll failed its readings are null. Units stand in the names: mhs MH/s, dc 0.1 °C, dw 0.1 W.
CREATE TABLE miner_latest (
    site_id           uuid        NOT NULL,
    miner_id          uuid        NOT NULL,
    at                timestamptz NOT NULL, -- the agent's clock, as are the next two
    answered_at       timestamptz,          -- latest poll that gave readings
    version           xid8        NOT NULL, -- transaction that wrote the row: what changed since a snapshot is found by it
    outcome           smallint    NOT NULL,
    state             smallint    NOT NULL,
    repairs           bigint      NOT NULL,
    hashrate_mhs      bigint,
    hashrate_window_s integer,
    hashrate_avg_mhs  bigint,
    hashrate_ideal_mhs bigint,
    temp_board_dc     integer,
    temp_chip_dc      integer,
    temp_inlet_dc     integer,
    power_dw          integer,
    uptime_s          integer,
    accepted          bigint,
    rejected          bigint,
    stale             bigint,
    hw_errors         bigint,
    best_share        bigint,
    fan_percent       integer,
    fans_rpm          integer[],
    worker            text, -- of the active pool
    PRIMARY KEY (site_id, miner_id)
) WITH (fillfactor = 50);

-- What a miner's own page shows beside its latest row: boards, pools and errors, kept apart so that lists stay narrow.
CREATE TABLE miner_detail (
    site_id  uuid  NOT NULL,
    miner_id uuid  NOT NULL,
    boards   jsonb NOT NULL,
    pools    jsonb NOT NULL,
    errors   jsonb NOT NULL,
    PRIMARY KEY (site_id, miner_id)
) WITH (fillfactor = 50);
