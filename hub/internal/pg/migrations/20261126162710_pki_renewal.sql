-- +goose Up

-- Certificates that are replaced by themselves, and those of others than sites. All hold for what an earlier hub wrote: a site's certificate that
-- replaces nothing. Beside the root of such a hub (hub_secret "ca") stands one row "authorities" with all roots and intermediates, sealed as a whole.
ALTER TABLE certificate
    ALTER COLUMN site_id DROP NOT NULL,
    ADD COLUMN seq           bigint      GENERATED ALWAYS AS IDENTITY, -- order of issue
    ADD COLUMN kind          text        NOT NULL DEFAULT 'site' CHECK (kind IN ('site', 'hub', 'client')),
    ADD COLUMN issuer        bytea,                         -- SHA-256 of the issuer's certificate; null: the CA of an earlier hub
    ADD COLUMN name          text,                          -- of an API client
    ADD COLUMN key_id        uuid,                          -- the API key that a client's certificate stands for
    ADD COLUMN supersedes    boolean     NOT NULL DEFAULT false, -- its first use ends the site's earlier ones
    ADD COLUMN first_used_at timestamptz,
    ADD COLUMN superseded_at timestamptz,
    ADD COLUMN revoked_by    text,
    ADD COLUMN revoked_xid   xid8,                          -- transaction that revoked it: what is new since a snapshot is found by it
    ADD CONSTRAINT certificate_names CHECK ((kind = 'site') = (site_id IS NOT NULL));
CREATE INDEX certificate_revoked_xid ON certificate (revoked_xid) WHERE revoked_xid IS NOT NULL;
CREATE INDEX certificate_revoked_until ON certificate (not_after) WHERE revoked_at IS NOT NULL;
CREATE INDEX certificate_until ON certificate (not_after);

-- What the CA knows of a site beside its certificates.
CREATE TABLE site_certificate (
    site_id       uuid          PRIMARY KEY REFERENCES site (id),
    revoked_at    timestamptz,            -- null again after a new enrolment
    revoked_why   text,
    revoked_by    text,
    recovered_at  timestamptz[] NOT NULL DEFAULT '{}', -- recoveries of late, a few
    recover_extra integer       NOT NULL DEFAULT 0     -- recoveries that a person allowed beyond the count
);
