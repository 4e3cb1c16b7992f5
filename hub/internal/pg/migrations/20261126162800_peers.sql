-- +goose Up
-- The hub's end of the tunnel. A row of peer is a site's end of it; the reconcile loop of package peers makes the WireGuard device agree with
-- these rows. A removed peer keeps its row: changes are found by version, and the site gets its address back when it joins again.
CREATE TABLE peer (
    site_id           uuid        PRIMARY KEY REFERENCES site (id),
    public_key        bytea       NOT NULL UNIQUE CHECK (length(public_key) = 32),
    address           inet        NOT NULL UNIQUE, -- one address, in peer_address too
    psk               bytea       NOT NULL,        -- sealed, as are next_psk and the hub's secrets
    next_key          bytea       UNIQUE CHECK (length(next_key) = 32), -- the site has made it, and takes it into use when it likes
    next_psk          bytea,
    rotate_wanted_at  timestamptz,                 -- the site is asked for a new key
    keepalive_s       integer     NOT NULL CHECK (keepalive_s BETWEEN 0 AND 65535),
    endpoint          text        NOT NULL DEFAULT '' CHECK (length(endpoint) <= 260), -- host:port; empty: wherever the site calls from
    generation        bigint      NOT NULL DEFAULT 1,
    version           xid8        NOT NULL, -- transaction that wrote the row: what changed since a snapshot is found by it
    quarantined_at    timestamptz,
    quarantine_reason text,
    added_at          timestamptz NOT NULL,
    changed_at        timestamptz NOT NULL,
    removed_at        timestamptz,
    CHECK ((next_key IS NULL) = (next_psk IS NULL)),
    CHECK ((quarantined_at IS NULL) = (quarantine_reason IS NULL))
);
CREATE INDEX peer_version ON peer (version);

-- Every address ever given, and to whom. Rows stay: an address means one site, for ever.
CREATE TABLE peer_address (
    address  inet        PRIMARY KEY CHECK (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END),
    site_id  uuid        NOT NULL REFERENCES site (id),
    given_at timestamptz NOT NULL
);
CREATE INDEX peer_address_site ON peer_address (site_id);

-- Where the next address is looked for, counted from the network's beginning; 1 is the hub's own. Numbers of transactions that were rolled back
-- are left out, and found again when the end is reached.
CREATE SEQUENCE peer_address_offset AS bigint MINVALUE 2 START 2;

-- Every WireGuard key ever used, and by whom. Rows stay: a key means one site, for ever.
CREATE TABLE peer_key (
    public_key bytea       PRIMARY KEY CHECK (length(public_key) = 32),
    site_id    uuid        NOT NULL REFERENCES site (id),
    added_at   timestamptz NOT NULL
);

-- Networks behind a site that are reached through the tunnel. Two that overlap cannot both be.
CREATE TABLE peer_network (
    network  inet        NOT NULL, -- with bits beyond its length zero
    site_id  uuid        NOT NULL REFERENCES peer (site_id),
    added_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, network),
    EXCLUDE USING gist (network inet_ops WITH &&)
);

-- What the device says of a peer, written at most once per pass. Bytes are counted over restarts of the device.
CREATE TABLE peer_observed (
    site_id      uuid        PRIMARY KEY REFERENCES peer (site_id),
    endpoint     text        NOT NULL,
    handshake_at timestamptz,
    received     bigint      NOT NULL,
    sent         bigint      NOT NULL,
    seen_at      timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The hub's own WireGuard keys; their private halves are hub_secret rows. While the key is changed two devices run, each on a port of its own.
CREATE TABLE peer_hub_key (
    number     integer     PRIMARY KEY,
    public_key bytea       NOT NULL UNIQUE CHECK (length(public_key) = 32),
    port_shift smallint    NOT NULL CHECK (port_shift IN (0, 1)), -- added to the port of WG_ADDR
    secret     text        NOT NULL UNIQUE,                       -- name in hub_secret
    created_at timestamptz NOT NULL,
    retired_at timestamptz
);

-- The hub process that has the device, one row. Passes are numbered, so that others can wait for one that began after their change.
CREATE TABLE peer_owner (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    holder     uuid        NOT NULL,
    host       text        NOT NULL,
    backend    text        NOT NULL,
    why        text        NOT NULL, -- that backend
    problem    text        NOT NULL, -- empty when all is well
    pass_begun bigint      NOT NULL,
    pass_done  bigint      NOT NULL,
    seen_at    timestamptz NOT NULL
);
