-- +goose Up

-- When the boards and pools of a miner were read, by the agent's clock: they are written less often than its latest row. Null in rows that
-- came before this column.
ALTER TABLE miner_detail ADD COLUMN at timestamptz;
