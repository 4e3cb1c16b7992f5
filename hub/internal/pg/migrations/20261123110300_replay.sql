-- +goose Up

-- Below this sequence number the ledger has been looked at for holes: every batch is there, is named by a gap record, or was asked for
-- and did not come. A hub restored to an earlier moment has the number of that moment, and so looks at what it lost.
ALTER TABLE batch_total ADD COLUMN complete_below bigint NOT NULL DEFAULT 1;
