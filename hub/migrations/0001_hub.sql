-- The hub's own facts. Digests, ids and documents' names are the text that documents use; times are seconds since
-- 1970; envelopes are the bytes as they were signed.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE root (
    version   INTEGER PRIMARY KEY,
    sha256    TEXT NOT NULL UNIQUE,
    envelope  BLOB NOT NULL,
    issued_at INTEGER NOT NULL
) STRICT;

-- Files under blobs/ that are whole and verified.
CREATE TABLE blob (
    sha256 TEXT PRIMARY KEY,
    size   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE release (
    sha256       TEXT PRIMARY KEY,
    app          TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    version      TEXT NOT NULL,
    bundle       TEXT NOT NULL,
    envelope     BLOB NOT NULL,
    published_at INTEGER NOT NULL,
    UNIQUE (app, epoch, seq)
) STRICT, WITHOUT ROWID;

-- What a release's bundle consists of, in the order in which a site wants it.
CREATE TABLE release_blob (
    release TEXT NOT NULL REFERENCES release (sha256),
    sha256  TEXT NOT NULL,
    size    INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    PRIMARY KEY (release, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX release_blob_sha256 ON release_blob (sha256);

CREATE TABLE site (
    site        TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    contact     TEXT NOT NULL CHECK (contact IN ('mqtt', 'media')),
    standing    TEXT NOT NULL CHECK (standing IN ('enrolled', 'quarantined', 'revoked')),
    -- The greatest assignment number that any assignment of this site may have had.
    last_epoch  INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    conn_boot   TEXT,
    conn_seq    INTEGER NOT NULL DEFAULT 0,
    last_seen   INTEGER,
    -- The same moment on the boot clock, and the boot that it belongs to: wall clocks may be set.
    seen_mono_ms INTEGER,
    seen_boot    TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE site_key (
    keyid       TEXT PRIMARY KEY,
    site        TEXT NOT NULL REFERENCES site (site),
    incarnation INTEGER NOT NULL,
    public_key  TEXT NOT NULL,
    chain_id    TEXT NOT NULL,
    -- SHA-256 of the TLS key's SubjectPublicKeyInfo: certificates are known by key.
    tls_sha256  TEXT NOT NULL,
    revoked     INTEGER NOT NULL CHECK (revoked IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX site_key_site ON site_key (site, incarnation);
CREATE INDEX site_key_tls ON site_key (tls_sha256);

CREATE TABLE label (
    site  TEXT NOT NULL REFERENCES site (site),
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (site, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX label_key ON label (key, value, site);

CREATE TABLE token (
    id         TEXT PRIMARY KEY,
    secret     BLOB NOT NULL,
    site       TEXT,
    labels     TEXT NOT NULL,
    contact    TEXT NOT NULL CHECK (contact IN ('mqtt', 'media')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_by    TEXT
) STRICT, WITHOUT ROWID;

-- Requests to join, and what became of them.
CREATE TABLE enrolment (
    nonce       TEXT PRIMARY KEY,
    site_keyid  TEXT NOT NULL,
    request     BLOB NOT NULL,
    carrier     TEXT NOT NULL CHECK (carrier IN ('https', 'media')),
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'granted', 'rejected')),
    site        TEXT,
    granted     BLOB,
    reason      TEXT,
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX enrolment_state ON enrolment (state, received_at);
CREATE INDEX enrolment_keyid ON enrolment (site_keyid);

CREATE TABLE desired (
    site       TEXT NOT NULL REFERENCES site (site),
    app        TEXT NOT NULL,
    release    TEXT NOT NULL REFERENCES release (sha256),
    parameters TEXT NOT NULL,
    overlays   TEXT NOT NULL,
    secrets    TEXT NOT NULL,
    retry      INTEGER NOT NULL,
    PRIMARY KEY (site, app)
) STRICT, WITHOUT ROWID;
CREATE INDEX desired_release ON desired (release, site);

CREATE TABLE retirement (
    site TEXT NOT NULL REFERENCES site (site),
    app  TEXT NOT NULL,
    PRIMARY KEY (site, app)
) STRICT, WITHOUT ROWID;

-- The newest few of each site; the greatest is in force.
CREATE TABLE assignment (
    site      TEXT NOT NULL REFERENCES site (site),
    epoch     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    sha256    TEXT NOT NULL,
    envelope  BLOB NOT NULL,
    published INTEGER NOT NULL CHECK (published IN (0, 1)),
    PRIMARY KEY (site, epoch, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX assignment_unpublished ON assignment (site) WHERE published = 0;
CREATE INDEX assignment_sha256 ON assignment (sha256);

-- A site said, under its signature, that a newer assignment is in force than this hub ever signed.
CREATE TABLE returned (
    site     TEXT PRIMARY KEY REFERENCES site (site),
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    -- The assignment itself, where a stick brought it back.
    envelope BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
    id              INTEGER PRIMARY KEY,
    site            TEXT NOT NULL REFERENCES site (site),
    chain_id        TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    sha256          TEXT NOT NULL,
    prev_sha256     TEXT,
    keyid           TEXT NOT NULL,
    outcome         TEXT NOT NULL,
    app             TEXT,
    release_version TEXT,
    release_seq     INTEGER,
    reason          TEXT,
    known_time      INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    carrier         TEXT NOT NULL CHECK (carrier IN ('mqtt', 'media')),
    envelope        BLOB NOT NULL,
    UNIQUE (site, chain_id, seq, sha256)
) STRICT;
CREATE INDEX receipt_app ON receipt (app, id);

CREATE TABLE chain (
    site        TEXT NOT NULL REFERENCES site (site),
    chain_id    TEXT NOT NULL,
    -- Up to here without a gap, and the digest there.
    head        INTEGER NOT NULL,
    head_sha256 TEXT,
    highest     INTEGER NOT NULL,
    fork        INTEGER,
    PRIMARY KEY (site, chain_id)
) STRICT, WITHOUT ROWID;

-- The newest status of each site.
CREATE TABLE status (
    site         TEXT PRIMARY KEY REFERENCES site (site),
    outbox_epoch TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    boot         TEXT NOT NULL,
    -- Boots before it, newest first: a boot that returns belongs to a copy.
    boots        TEXT NOT NULL,
    document     TEXT NOT NULL,
    received_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE site_app (
    site        TEXT NOT NULL REFERENCES site (site),
    app         TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     TEXT,
    seq         INTEGER,
    generation  TEXT,
    reason      TEXT,
    PRIMARY KEY (site, app)
) STRICT, WITHOUT ROWID;

CREATE TABLE ingest (
    site         TEXT NOT NULL REFERENCES site (site),
    outbox_epoch TEXT NOT NULL,
    upto         INTEGER NOT NULL,
    PRIMARY KEY (site, outbox_epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    detail      TEXT NOT NULL,
    prev_sha256 TEXT,
    sha256      TEXT NOT NULL
) STRICT;

-- SHA-256 of each token; the token itself is never stored.
CREATE TABLE api_token (
    sha256     TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked    INTEGER NOT NULL CHECK (revoked IN (0, 1))
) STRICT, WITHOUT ROWID;
