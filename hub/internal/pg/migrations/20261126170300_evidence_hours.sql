-- +goose Up
-- Finds the batches of a site's hour in the order in which they are listed and exported, wherever their payloads lie.
CREATE INDEX batch_first_at ON batch (site_id, first_at, spool_id, seq);
