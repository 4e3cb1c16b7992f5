-- +goose Up

-- Which case of the code it is, by a stable name, and the numbers and names in its text: a reader's language has a sentence of its own for it. The previous hub
-- leaves both as they are; who reads them compares the name with the code.
ALTER TABLE anchor_status ADD COLUMN problem text NOT NULL DEFAULT '', ADD COLUMN params jsonb NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE anchor_status DROP COLUMN params, DROP COLUMN problem;
