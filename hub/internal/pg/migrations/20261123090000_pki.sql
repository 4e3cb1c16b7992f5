-- +goose Up
-- hub_secret: secrets of the hub itself, sealed with the key that ENCRYPTION_PASSWORD gives; shared by all hub processes.
CREATE TABLE hub_secret (
    name       text        PRIMARY KEY,
    sealed     bytea       NOT NULL, -- version, salt, nonce, ciphertext: see package pki
    public     bytea       NOT NULL, -- certificate or public key that belongs to it
    created_at timestamptz NOT NULL
);

-- certificate: every certificate the hub's CA has issued to a site. What is not listed here, or is revoked, is refused.
CREATE TABLE certificate (
    serial      bytea       PRIMARY KEY, -- 16 random bytes, big-endian
    site_id     uuid        NOT NULL,
    der         bytea       NOT NULL,
    not_before  timestamptz NOT NULL,
    not_after   timestamptz NOT NULL,
    issued_at   timestamptz NOT NULL,
    revoked_at  timestamptz,
    revoked_why text
);
CREATE INDEX certificate_site_idx ON certificate (site_id, not_after);
