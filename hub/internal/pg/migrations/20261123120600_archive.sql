-- +goose Up

-- Objects that hold payloads of batches, unchanged and one after the other: one for each site and hour of first sample, further ones for late batches.
CREATE TABLE archive_object (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id    uuid        NOT NULL,
    hour       integer     NOT NULL, -- since 1970 UTC
    key        text        NOT NULL UNIQUE,
    size       bigint      NOT NULL,
    batches    integer     NOT NULL,
    written_at timestamptz NOT NULL
);
CREATE INDEX archive_object_hour ON archive_object (site_id, hour);

-- Where a payload that is no longer in its row lies: its length and hash stand in the header.
ALTER TABLE batch ADD COLUMN archive_id bigint, ADD COLUMN archive_offset bigint;
-- Payloads that are still to be moved.
CREATE INDEX batch_unarchived ON batch (site_id, first_at) WHERE payload IS NOT NULL;
