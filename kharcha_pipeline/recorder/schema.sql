-- The recorder's own database, one statement after the other. Decimals are text: SQLite has no exact type for them.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Prices in force, per million tokens in USD, NULL where nobody states one. One row for each model id.
CREATE TABLE model_pricing (
    model_id TEXT PRIMARY KEY,
    input_price TEXT,
    cached_input_price TEXT,
    output_price TEXT,
    reasoning_price TEXT,
    premium_unit_price TEXT,
    premium_multiplier TEXT,
    price_provider TEXT NOT NULL,
    price_model TEXT NOT NULL,
    source TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

-- One row for each call. Ids ascend in the order of commits, without AUTOINCREMENT, which would write one more page for
-- each call: rows are never deleted, nor changed but for their day by a rebucket.
CREATE TABLE usage_events (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    occurred_at INTEGER NOT NULL,
    day TEXT NOT NULL,
    account_name TEXT NOT NULL,
    model_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    upstream_format TEXT NOT NULL,
    is_streaming INTEGER NOT NULL,
    status TEXT NOT NULL,
    duration_ms INTEGER,
    request_id TEXT,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_5m_tokens INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    web_search_requests INTEGER NOT NULL,
    premium_request_count TEXT NOT NULL,
    input_price_snapshot TEXT,
    cached_input_price_snapshot TEXT,
    output_price_snapshot TEXT,
    reasoning_price_snapshot TEXT,
    premium_unit_price_snapshot TEXT,
    premium_multiplier_snapshot TEXT
);
CREATE UNIQUE INDEX usage_events_of_requests ON usage_events (account_name, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE usage_daily (
    day TEXT NOT NULL,
    account_name TEXT NOT NULL,
    model_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    req_count INTEGER NOT NULL,
    failed_count INTEGER NOT NULL,
    aborted_count INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_5m_tokens INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    web_search_requests INTEGER NOT NULL,
    premium_request_count TEXT NOT NULL,
    PRIMARY KEY (day, account_name, model_id, endpoint)
) WITHOUT ROWID;

-- What could not be recorded: when, and why as a fixed phrase.
CREATE TABLE rejects (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    occurred_at INTEGER NOT NULL,
    reason TEXT NOT NULL
);
