-- Everything known of vendor accounts. Instants are milliseconds since the epoch, UTC. Amounts are text inside JSON.
-- Others read about, accounts, versions, rejects and transitions by SQL; the other tables belong to the store alone.

CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY,
    connector TEXT NOT NULL,
    vendor TEXT NOT NULL,
    source TEXT NOT NULL,
    label TEXT NOT NULL,
    owner TEXT NOT NULL,
    counted INTEGER NOT NULL,
    local_sources TEXT NOT NULL,  -- a JSON list
    local_account TEXT,
    tolerance_percent INTEGER NOT NULL,
    is_configured INTEGER NOT NULL,
    is_enabled INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'active',
    state_since INTEGER,  -- NULL while it never was in another state
    until INTEGER,
    sentence TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT '',  -- of the credential, keyed with the salt; '' before the first
    credential_expires INTEGER,
    last_attempt INTEGER,
    last_success INTEGER,
    next_poll INTEGER,
    events INTEGER NOT NULL DEFAULT 0  -- of kind event, and shown by the vendor
) STRICT, WITHOUT ROWID;

-- Every value that an item ever had, appended and never changed. The newest of an item stands.
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item INTEGER NOT NULL,
    account TEXT NOT NULL,
    resource TEXT NOT NULL,
    kind TEXT NOT NULL,
    group_key TEXT NOT NULL,  -- what never changes about it, a JSON array
    ordinal INTEGER NOT NULL,  -- tells items of one group apart
    at_ms INTEGER NOT NULL,
    content TEXT,  -- the item as JSON with its tag; NULL: the vendor shows it no longer
    seen_at INTEGER NOT NULL,  -- when the answers that say so were fetched
    counted INTEGER NOT NULL,
    source TEXT NOT NULL,
    connector TEXT NOT NULL,
    previous INTEGER,  -- the version before, NULL for the first
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS rejects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    resource TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL,
    from_ms INTEGER NOT NULL,  -- where the window begins; its end may move with the present
    UNIQUE (account, resource, reason, from_ms)
) STRICT;

CREATE TABLE IF NOT EXISTS transitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    sentence TEXT NOT NULL,
    at INTEGER NOT NULL,
    until INTEGER
) STRICT;

-- The items by what never changes about them. `version` is the newest one, `shown` the newest with content: they
-- differ while the vendor does not show the item.
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    connector TEXT NOT NULL,
    resource TEXT NOT NULL,
    kind TEXT NOT NULL,
    group_key TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    version INTEGER NOT NULL,
    shown INTEGER NOT NULL,
    missed INTEGER NOT NULL DEFAULT 0,  -- complete readings without it, one after the other
    guarded TEXT NOT NULL DEFAULT '',  -- names of fields whose value stands although the vendor tells it no longer
    UNIQUE (account, connector, resource, kind, group_key, ordinal)
) STRICT;
CREATE INDEX IF NOT EXISTS items_by_instant ON items (account, connector, resource, at_ms);

-- What was read as a whole. `applied`: it stands. `superseded`: newer ones cover all of its window.
CREATE TABLE IF NOT EXISTS readings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    connector TEXT NOT NULL,
    resource TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    fetched_at INTEGER NOT NULL,  -- when its last answer was complete
    status TEXT NOT NULL CHECK (status IN ('applied', 'held', 'superseded', 'discarded')),
    digest TEXT NOT NULL,  -- of the answers' contents
    notes TEXT NOT NULL,  -- JSON: what was noticed, with how often
    refreshed_ms INTEGER,  -- up to when the vendor says its data are complete
    is_empty INTEGER NOT NULL  -- says nothing, in a form that proves nothing: older ones stand beside it
) STRICT;
CREATE INDEX IF NOT EXISTS readings_by_window ON readings (account, connector, resource, from_ms, until_ms);
CREATE INDEX IF NOT EXISTS readings_by_instant ON readings (account, connector, resource, fetched_at);
CREATE INDEX IF NOT EXISTS readings_that_stand ON readings (account, connector, resource, from_ms, until_ms)
    WHERE status = 'applied';

-- When a resource was last read completely.
CREATE TABLE IF NOT EXISTS last_readings (
    account TEXT NOT NULL,
    connector TEXT NOT NULL,
    resource TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (account, connector, resource)
) STRICT, WITHOUT ROWID;

-- The answers of each reading, as they came, without credentials; equal bodies are kept once.
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    reading INTEGER NOT NULL REFERENCES readings (id),
    position INTEGER NOT NULL,
    request TEXT NOT NULL,  -- JSON
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,  -- JSON
    fetched_at INTEGER NOT NULL,
    sha256 TEXT NOT NULL REFERENCES bodies (sha256),
    UNIQUE (reading, position)
) STRICT;
CREATE TABLE IF NOT EXISTS bodies (sha256 TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT;  -- zstd

-- Readings that wait for a person, and those that somebody decided on.
CREATE TABLE IF NOT EXISTS held (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reading INTEGER NOT NULL REFERENCES readings (id),
    sentence TEXT NOT NULL,
    held_at INTEGER NOT NULL,
    decided_at INTEGER,
    decision TEXT CHECK (decision IN ('accepted', 'discarded', 'superseded'))
) STRICT;
CREATE INDEX IF NOT EXISTS held_open ON held (reading) WHERE decision IS NULL;

CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    subject TEXT NOT NULL,
    sentence TEXT NOT NULL,
    once_key TEXT NOT NULL,
    at INTEGER NOT NULL,
    told_at INTEGER,
    UNIQUE (account, once_key)
) STRICT;
CREATE INDEX IF NOT EXISTS notices_pending ON notices (id) WHERE told_at IS NULL;

CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    budget TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS requests_by_instant ON requests (account, budget, at);

CREATE TABLE IF NOT EXISTS proxy_rests (
    account TEXT NOT NULL,
    proxy TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (account, proxy)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS unavailable (
    account TEXT NOT NULL,
    resource TEXT NOT NULL,
    sentence TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (account, resource)
) STRICT, WITHOUT ROWID;
