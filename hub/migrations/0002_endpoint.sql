-- The MQTT endpoint's memory: a cache that lets sites resume. Nothing here is the only copy of a decision.

CREATE TABLE retained (
    topic   TEXT PRIMARY KEY,
    qos     INTEGER NOT NULL CHECK (qos IN (0, 1)),
    payload BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Only sessions that outlive their connection. The expiry counts from the disconnection, and from the
-- hub's start for those that were open then: no clock is compared across restarts.
CREATE TABLE session (
    client   TEXT PRIMARY KEY,
    expiry_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE subscription (
    client              TEXT NOT NULL,
    filter              TEXT NOT NULL,
    qos                 INTEGER NOT NULL CHECK (qos IN (0, 1)),
    retain_as_published INTEGER NOT NULL CHECK (retain_as_published IN (0, 1)),
    PRIMARY KEY (client, filter)
) STRICT, WITHOUT ROWID;

-- QoS 1 messages that a session still owes. Those of retained topics are not here: `retained` has them.
CREATE TABLE inflight (
    client  TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    topic   TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (client, seq)
) STRICT;
