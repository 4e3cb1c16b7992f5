-- +goose Up

ALTER TABLE api_key
    ADD COLUMN user_id      text NOT NULL DEFAULT '', -- whose key it is, as text until the hub has users
    ADD COLUMN created_by   text NOT NULL DEFAULT '', -- a key's id, or command
    ADD COLUMN copied_from  uuid,                     -- the key whose place it takes
    ADD COLUMN revoked_by   text NOT NULL DEFAULT '',
    ADD COLUMN revoked_why  text NOT NULL DEFAULT '',
    ADD COLUMN announced    integer NOT NULL DEFAULT 0, -- days of the last announcement of its end: 14, then 3
    ADD COLUMN rate_limit   integer CHECK (rate_limit >= 0), -- requests a minute; 0 is exempt, null is everyone's
    ADD COLUMN certificate  text CHECK (certificate <> ''); -- identity of the client certificate that stands for this key

-- One certificate stands for one key.
CREATE UNIQUE INDEX api_key_certificate ON api_key (certificate) WHERE revoked_at IS NULL;
CREATE INDEX api_key_expiry ON api_key (expires_at) WHERE revoked_at IS NULL;

-- +goose Down
DROP INDEX api_key_expiry;
DROP INDEX api_key_certificate;
ALTER TABLE api_key
    DROP COLUMN user_id, DROP COLUMN created_by, DROP COLUMN copied_from, DROP COLUMN revoked_by, DROP COLUMN revoked_why,
    DROP COLUMN announced, DROP COLUMN rate_limit, DROP COLUMN certificate;
