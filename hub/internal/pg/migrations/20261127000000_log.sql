-- +goose Up

-- The transparency log. What happens to a subject is noted here in its own transaction; package proof gives notes their places and writes the tiles. These rows are the
-- truth: the tiles can be made from them again. A row with a place is never changed.
CREATE TABLE log_entry (
    id       bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     smallint NOT NULL, -- pkg/proof.EntryKind
    ref      bytea    NOT NULL CHECK (length(ref) = 32), -- SHA-256 of the body
    noted_ms bigint   NOT NULL CHECK (noted_ms >= 0), -- the hub's time, part of the entry's bytes
    body     bytea    NOT NULL,
    idx      bigint   UNIQUE CHECK (idx >= 0), -- its place in the log; null: it has none yet
    UNIQUE (kind, ref)
);
CREATE INDEX log_entry_pending ON log_entry (id) WHERE idx IS NULL;
CREATE INDEX log_entry_kind ON log_entry (kind, idx);
-- Site, event and public key at the beginning of a body of kind 2.
CREATE INDEX log_entry_site_key ON log_entry (substring(body FROM 1 FOR 49)) WHERE kind = 2;

-- Every checkpoint that was signed.
CREATE TABLE log_checkpoint (
    size         bigint      PRIMARY KEY CHECK (size > 0),
    root         bytea       NOT NULL CHECK (length(root) = 32),
    note         text        NOT NULL, -- the signed note
    published_at timestamptz NOT NULL
);

-- One row, made with the log.
CREATE TABLE log_state (
    id           smallint    PRIMARY KEY CHECK (id = 1),
    log_id       bytea       NOT NULL CHECK (length(log_id) = 16), -- random, in the origin of checkpoints
    made_at      timestamptz NOT NULL,
    looked_at    timestamptz, -- when a hub last compared rows and tiles
    behind       bigint      NOT NULL DEFAULT 0, -- entries that the tiles had and the rows did not, at that time
    halted       text        NOT NULL DEFAULT '', -- why nothing may be added to the log
    caught_up_at timestamptz, -- when everything older than the log had its entry
    catch_source text        NOT NULL DEFAULT '', -- how far that has come
    catch_a      uuid,
    catch_b      bigint,
    catch_c      uuid
);

-- +goose Down
DROP TABLE log_state;
DROP TABLE log_checkpoint;
DROP TABLE log_entry;
