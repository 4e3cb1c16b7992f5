-- +goose Up

-- Why the log's tiles cannot be written at present, in words: whatever process writes them knows, and all may be asked. The previous hub leaves it as it is.
ALTER TABLE log_state ADD COLUMN blocked text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE log_state DROP COLUMN blocked;
