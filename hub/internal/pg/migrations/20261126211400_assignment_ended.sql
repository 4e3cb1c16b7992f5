-- +goose Up

-- When the present end of an assignment was recorded: customers see that nobody chose it in hindsight. The previous hub leaves it null.
ALTER TABLE contract_miner ADD COLUMN ended_at timestamptz; -- null: no end, or the one that it was ordered with

-- +goose Down
ALTER TABLE contract_miner DROP COLUMN ended_at;
