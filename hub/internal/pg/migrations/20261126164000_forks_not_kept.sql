-- +goose Up

-- Forks of a spool that were found when there was no room for further proofs: the same one counts each time it comes.
ALTER TABLE batch_total ADD COLUMN forks_not_kept bigint NOT NULL DEFAULT 0;
