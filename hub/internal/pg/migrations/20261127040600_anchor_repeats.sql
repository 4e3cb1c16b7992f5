-- +goose Up

-- Who has the role may anchor a head once more, which the contract takes. Such an anchor is read back like every other one; what this hub makes itself repeats no
-- size. The anchor that covers an entry is found by size. The previous hub inserts what it reads back without looking at the index.
DROP INDEX anchor_size;
CREATE INDEX anchor_size ON anchor (chain_id, contract, size, seq);
CREATE UNIQUE INDEX anchor_size_own ON anchor (chain_id, contract, size) WHERE NOT adopted;

-- +goose Down
DROP INDEX anchor_size_own;
DROP INDEX anchor_size;
CREATE UNIQUE INDEX anchor_size ON anchor (chain_id, contract, size) WHERE NOT adopted; -- those that repeat one are there
