-- +goose Up

-- Every attempted poll of the last days, one row each, in daily partitions that package series creates and drops. Wide columns come
-- first, so that no padding is stored. Null means not reported. Units stand in the names: mhs MH/s, dc 0.1 °C, dw 0.1 W, mh megahashes.
CREATE TABLE telemetry_hot (
    ts                timestamptz NOT NULL, -- the agent's clock
    hashrate_mhs      bigint,   -- over the shortest window the firmware reports
    hashrate_avg_mhs  bigint,   -- since the mining program started
    hashes_mh         bigint,   -- since the mining program started
    accepted          bigint,   -- shares since the mining program started, as are the next two
    rejected          bigint,
    stale             bigint,
    diff_accepted     bigint,   -- sum of share difficulty
    hw_errors         bigint,
    best_share        bigint,   -- difficulty
    energy_j          bigint,   -- since the agent began to poll the miner
    hashrate_window_s integer,
    temp_board_dc     integer,
    temp_chip_dc      integer,
    temp_inlet_dc     integer,
    fan1_rpm          integer,
    fan2_rpm          integer,
    fan3_rpm          integer,
    fan4_rpm          integer,
    power_dw          integer,
    uptime_s          integer,
    took_ms           integer,  -- from dial to the last byte or the failure
    flags             bigint      NOT NULL, -- telemetry.Flags
    outcome           smallint    NOT NULL, -- telemetry.Outcome
    state             smallint    NOT NULL, -- telemetry.State
    site_id           uuid        NOT NULL,
    miner_id          uuid        NOT NULL
) PARTITION BY RANGE (ts);

-- One miner's series, until blocks answer that.
CREATE INDEX telemetry_hot_miner ON telemetry_hot (miner_id, ts);
-- Whole spans of time.
CREATE INDEX telemetry_hot_ts ON telemetry_hot USING brin (ts);
