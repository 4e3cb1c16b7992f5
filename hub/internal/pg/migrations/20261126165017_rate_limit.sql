-- +goose Up

-- Requests of the running and the last minute, of all hub processes. Not logged: after a crash the counts begin again.
CREATE UNLOGGED TABLE rate_count (
    minute   bigint  NOT NULL, -- Unix time divided by 60
    subject  text    NOT NULL, -- key:… or addr:…
    requests bigint  NOT NULL,
    PRIMARY KEY (minute, subject)
);

-- Settings that are changed while hubs run, in all processes at once. The newest wins over environment and files.
CREATE TABLE hub_setting (
    name       text        PRIMARY KEY,
    value      text        NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text        NOT NULL
);

-- +goose Down
DROP TABLE hub_setting;
DROP TABLE rate_count;
