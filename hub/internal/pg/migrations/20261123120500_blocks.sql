-- +goose Up

-- What a hot row holds beside its columns: boards, pools, further readings, errors (package wire, details). Null without any.
ALTER TABLE telemetry_hot ADD COLUMN detail bytea;

-- Hours whose hot rows have changed since their blocks were written, one row for each site, hour and ingest transaction: no key, so that
-- transactions never wait for each other here. Written with the rows themselves; whoever writes the blocks deletes what it has seen.
CREATE TABLE block_dirty (
    site_id  uuid   NOT NULL,
    hour     integer NOT NULL, -- since 1970 UTC
    from_ms  integer NOT NULL  -- earliest of the rows, ms since the hour's beginning
);
CREATE INDEX block_dirty_hour ON block_dirty (site_id, hour);
-- Rows of a hub that knows no blocks yet. Its later ones are found when their partition is about to be dropped.
INSERT INTO block_dirty SELECT DISTINCT site_id, h, 0 FROM batch, generate_series((extract(epoch FROM greatest(first_at,
    last_at - interval '8 days')) / 3600)::integer - 1, (extract(epoch FROM last_at) / 3600)::integer) h WHERE kind = 1 AND payload IS NOT NULL;

-- One row for each site and hour that has blocks; its lock is held while they are written.
CREATE TABLE telemetry_hour (
    site_id    uuid        NOT NULL,
    hour       integer     NOT NULL,
    written_at timestamptz NOT NULL,
    sealed_at  timestamptz, -- first written after the hour was over; late data is written later still
    miners     integer     NOT NULL,
    samples    bigint      NOT NULL,
    PRIMARY KEY (site_id, hour)
);
CREATE INDEX telemetry_hour_open ON telemetry_hour (hour) WHERE sealed_at IS NULL;

-- Days whose hot partition was dropped: from then on blocks are all there is of that day, and late rows are added to them.
CREATE TABLE hot_dropped (
    day        integer     PRIMARY KEY, -- since 1970 UTC
    dropped_at timestamptz NOT NULL
);

-- Every poll of one miner in one hour, packed by package wire as a batch is, in monthly partitions that package series makes and drops.
-- The other columns are facts of those polls, so that what is asked often needs no unpacking. Units as in telemetry_hot.
CREATE TABLE telemetry_block (
    site_id         uuid     NOT NULL,
    miner_id        uuid     NOT NULL,
    hour            integer  NOT NULL, -- since 1970 UTC
    first_ms        integer  NOT NULL, -- times of the first and last poll, ms since the hour's beginning
    last_ms         integer  NOT NULL,
    samples         integer  NOT NULL,
    answered        integer  NOT NULL,
    checksum        integer  NOT NULL, -- CRC-32C of the payload: guards the storage, is no evidence
    hashrate_sum    bigint   NOT NULL, -- MH/s, over hashrate_n polls
    power_sum       bigint   NOT NULL, -- 0.1 W, over power_n polls
    hashes_mh       bigint   NOT NULL, -- MH done between polls of the hour, where the miner counts them
    hashrate_n      integer  NOT NULL,
    power_n         integer  NOT NULL,
    temp_chip_dc    integer, -- highest
    temp_board_dc   integer, -- highest
    version         smallint NOT NULL, -- of this row's format
    slots_polled    smallint NOT NULL, -- of the hour's 12 slots of 5 minutes
    slots_answered  smallint NOT NULL,
    slots           bytea    NOT NULL, -- for each slot: polls made, polls answered, MH done (package series, slots)
    payload         bytea    NOT NULL,
    PRIMARY KEY (site_id, hour, miner_id)
) PARTITION BY RANGE (hour);
-- Already compressed: a second compression would cost time and gain nothing.
ALTER TABLE telemetry_block ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE telemetry_block ALTER COLUMN slots SET STORAGE MAIN;

-- A site's 5-minute slots, each the sum over its miners.
CREATE TABLE site_5m (
    site_id         uuid    NOT NULL,
    slot            integer NOT NULL, -- of 5 minutes, since 1970 UTC
    miners          integer NOT NULL, -- polled
    miners_answered integer NOT NULL,
    polls           integer NOT NULL,
    answered        integer NOT NULL,
    hashrate_miners integer NOT NULL, -- that reported a rate
    power_miners    integer NOT NULL,
    hashrate_mhs    bigint  NOT NULL, -- sum of each miner's mean, cut to whole MH/s
    power_dw        bigint  NOT NULL, -- sum of each miner's mean, cut to whole 0.1 W
    hashes_mh       bigint  NOT NULL,
    temp_chip_dc    integer, -- highest
    PRIMARY KEY (site_id, slot)
);

-- A miner's days, each the sum of its blocks.
CREATE TABLE miner_day (
    site_id        uuid    NOT NULL,
    day            integer NOT NULL, -- since 1970 UTC
    miner_id       uuid    NOT NULL,
    samples        integer NOT NULL,
    answered       integer NOT NULL,
    slots_polled   integer NOT NULL,
    slots_answered integer NOT NULL,
    hashrate_n     integer NOT NULL,
    power_n        integer NOT NULL,
    hashrate_sum   bigint  NOT NULL,
    power_sum      bigint  NOT NULL,
    hashes_mh      bigint  NOT NULL,
    temp_chip_dc   integer, -- highest, as is the next
    temp_board_dc  integer,
    PRIMARY KEY (site_id, day, miner_id)
) WITH (fillfactor = 80);
