-- The agent's rows. Digests are 32 bytes; lists and maps are JSON; a cluster-scoped object's namespace is ''.

CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    fleet TEXT NOT NULL,
    site TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    minimum_epoch INTEGER NOT NULL,
    minimum_seq INTEGER NOT NULL,
    outbox_epoch TEXT NOT NULL,
    outbox_next INTEGER NOT NULL,
    conn_seq INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    chain_id TEXT NOT NULL,
    receipt_next INTEGER NOT NULL,
    receipt_head BLOB,
    receipt_acked_next INTEGER NOT NULL,
    receipt_first INTEGER NOT NULL,
    time_floor_s INTEGER NOT NULL,
    cluster TEXT,
    hub_incarnation TEXT,
    hub_heard_s INTEGER
) STRICT;

CREATE TABLE root (version INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, envelope BLOB NOT NULL) STRICT;

CREATE TABLE document (sha256 BLOB PRIMARY KEY, envelope BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE accepted (
    app TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, release BLOB NOT NULL,
    PRIMARY KEY (app, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    kind TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE assignment (
    slot TEXT PRIMARY KEY CHECK (slot IN ('current', 'parked')), sha256 BLOB NOT NULL, envelope BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE app (
    app TEXT PRIMARY KEY,
    target BLOB,
    retry INTEGER NOT NULL,
    state TEXT NOT NULL,
    step TEXT NOT NULL,
    purpose TEXT NOT NULL,
    working BLOB,
    planned BLOB,
    current BLOB,
    previous BLOB,
    failed BLOB,
    held INTEGER NOT NULL,
    retire_ms INTEGER NOT NULL,
    settle_ms INTEGER NOT NULL,
    soak_ms INTEGER NOT NULL,
    watch_left_ms INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    code TEXT,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    since_s INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE generation (
    id BLOB PRIMARY KEY,
    app TEXT NOT NULL,
    release BLOB NOT NULL,
    bundle BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT NOT NULL,
    overlays TEXT NOT NULL,
    secrets TEXT NOT NULL,
    verdict TEXT NOT NULL,
    retry INTEGER NOT NULL,
    objects INTEGER,
    soak_ms INTEGER,
    timeout_ms INTEGER,
    watch_ms INTEGER,
    deletion_budget INTEGER,
    stopped INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE object (
    app TEXT NOT NULL,
    api_group TEXT NOT NULL,
    api_version TEXT NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT,
    applied_sha256 BLOB,
    fields_hash BLOB,
    applied_generation BLOB,
    wanted_index INTEGER,
    wanted_sha256 BLOB,
    wave INTEGER NOT NULL,
    traits INTEGER NOT NULL,
    PRIMARY KEY (app, api_group, api_version, kind, namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE image (
    generation BLOB NOT NULL, reference TEXT NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (generation, reference)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
    chain_id TEXT NOT NULL, seq INTEGER NOT NULL, outbox_seq INTEGER NOT NULL, sha256 BLOB NOT NULL,
    envelope BLOB NOT NULL, acked INTEGER NOT NULL,
    PRIMARY KEY (chain_id, seq)
) STRICT;

CREATE TABLE outbox (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, payload BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE refusal (
    code TEXT NOT NULL, carrier TEXT NOT NULL, count INTEGER NOT NULL, last TEXT NOT NULL,
    PRIMARY KEY (code, carrier)
) STRICT, WITHOUT ROWID;

CREATE TABLE secret (sha256 BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (sha256 BLOB PRIMARY KEY, deaths INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- The content task's own rows: what is complete, and which pieces of the rest are verified, written and synced.
CREATE TABLE blob (sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE transfer (sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL, bitmap BLOB NOT NULL) STRICT;
