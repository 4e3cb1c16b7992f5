-- +goose Up
-- Lists of certificates, the newest first.
CREATE INDEX certificate_seq ON certificate (seq);
