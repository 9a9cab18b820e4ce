-- The warehouse, version 1. `main` is what analysts see in the published copy; `raw` and `operations` stay here.
-- Event-sized tables have no primary key or index: uniqueness comes from how rows are written, and is checked.

CREATE SCHEMA raw;
CREATE SCHEMA operations;

-- ---------------------------------------------------------------------------------------------- operations

CREATE TABLE operations.facts (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);
COMMENT ON TABLE operations.facts IS 'Single facts about this warehouse: schema version, reporting zone, machine label, number of changes.';

CREATE TABLE operations.wanted_days (day DATE PRIMARY KEY, wanted BIGINT NOT NULL);
COMMENT ON TABLE operations.wanted_days IS 'The ledger, first half: the version each local day should have. Raised in the transaction of the change itself.';

CREATE TABLE operations.built_days (
    stage VARCHAR NOT NULL, day DATE NOT NULL, built BIGINT NOT NULL, reported BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (stage, day)
);
COMMENT ON TABLE operations.built_days IS 'The ledger, second half: the version of its input each stage last built a day from, and the version Dagster was told of.';

CREATE TABLE operations.file_states (
    file_id BIGINT PRIMARY KEY, sequence VARCHAR NOT NULL, head BLOB NOT NULL, tail BLOB NOT NULL, state JSON NOT NULL
);
COMMENT ON TABLE operations.file_states IS 'How to go on reading a log file: digests of its first bytes and of the last ones read, and the reader''s own state.';

-- ----------------------------------------------------------------------------------------------------- raw

CREATE TABLE raw.usage_records (
    source VARCHAR NOT NULL, family_key UBIGINT NOT NULL, family VARCHAR NOT NULL USING COMPRESSION zstd, file_id BIGINT NOT NULL,
    position BIGINT NOT NULL, line BIGINT, landed_at TIMESTAMPTZ NOT NULL, said JSON NOT NULL USING COMPRESSION zstd
);
COMMENT ON TABLE raw.usage_records IS 'What the sources said, as they said it, kept for ever. `family` names the identity group, `family_key` is its hash.';

CREATE TABLE raw.related_families (source VARCHAR NOT NULL, family VARCHAR NOT NULL, related VARCHAR NOT NULL);
COMMENT ON TABLE raw.related_families IS 'Which identity groups must be settled again when another one grows (a fork and its parent).';

CREATE TABLE raw.settled_records (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, source VARCHAR NOT NULL,
    family_key UBIGINT NOT NULL, account VARCHAR NOT NULL, machine VARCHAR NOT NULL, session_id VARCHAR NOT NULL,
    project VARCHAR NOT NULL, git_branch VARCHAR NOT NULL, is_subagent BOOLEAN NOT NULL,
    provider_raw VARCHAR NOT NULL, model_raw VARCHAR NOT NULL, service_tier VARCHAR NOT NULL,
    input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    web_search_requests BIGINT NOT NULL, reported_cost_usd DECIMAL(38, 12),
    time_quality VARCHAR NOT NULL, model_quality VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE raw.settled_records IS 'One row per billed response after all copies of it were compared; names as logged, in day order.';

CREATE TABLE raw.model_names (
    source VARCHAR NOT NULL, provider_raw VARCHAR NOT NULL, model_raw VARCHAR NOT NULL,
    provider VARCHAR NOT NULL, model VARCHAR NOT NULL, route VARCHAR NOT NULL, service_tier VARCHAR,
    PRIMARY KEY (source, provider_raw, model_raw)
);
CREATE VIEW raw.normalized_records AS
SELECT
    event_id, day, occurred_at, source, account, machine, session_id, project, git_branch, is_subagent,
    provider, model, provider_raw, model_raw, route, '' AS endpoint,
    -- a speed written into the model's name says more than the absence of a tier beside it
    CASE WHEN settled.service_tier = 'standard' THEN coalesce(names.service_tier, 'standard') ELSE settled.service_tier END
        AS service_tier,
    'ok' AS status, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    reasoning_tokens, web_search_requests, 0::DECIMAL(18, 4) AS premium_request_count, reported_cost_usd,
    time_quality, model_quality, 'message' AS evidence, recorded_at
FROM raw.settled_records AS settled
JOIN raw.model_names AS names USING (source, provider_raw, model_raw);
COMMENT ON VIEW raw.normalized_records IS 'Settled records under their normalized names: what usage_events is built from, day by day.';

COMMENT ON TABLE raw.model_names IS 'Normalized names of every pair of raw names that was ever seen, made by syntax alone.';

-- ---------------------------------------------------------------------------------------------------- main

CREATE TABLE usage_events (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, source VARCHAR NOT NULL,
    account VARCHAR NOT NULL, machine VARCHAR NOT NULL, session_id VARCHAR NOT NULL, project VARCHAR NOT NULL,
    git_branch VARCHAR NOT NULL, is_subagent BOOLEAN NOT NULL, provider VARCHAR NOT NULL, model VARCHAR NOT NULL,
    provider_raw VARCHAR NOT NULL, model_raw VARCHAR NOT NULL, route VARCHAR NOT NULL, endpoint VARCHAR NOT NULL,
    service_tier VARCHAR NOT NULL, status VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL, premium_request_count DECIMAL(18, 4) NOT NULL,
    reported_cost_usd DECIMAL(38, 12), time_quality VARCHAR NOT NULL, model_quality VARCHAR NOT NULL,
    evidence VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE usage_events IS 'One row per billed model response, deduplicated over all files, with disjoint token counts and normalized names.';
COMMENT ON COLUMN usage_events.event_id IS 'Identity of the response: the same wherever and however often it was logged. Holds no day, path or zone.';
COMMENT ON COLUMN usage_events.day IS 'Local day of occurred_at in the reporting zone.';
COMMENT ON COLUMN usage_events.occurred_at IS 'Instant of the response.';
COMMENT ON COLUMN usage_events.source IS 'The agent whose log said so: claude-code, codex, opencode, kimi.';
COMMENT ON COLUMN usage_events.account IS 'Label given to the log root in the settings, else empty.';
COMMENT ON COLUMN usage_events.machine IS 'Label of this machine from the settings, else a random id; never the host name.';
COMMENT ON COLUMN usage_events.session_id IS 'Session as logged, else the name of its file.';
COMMENT ON COLUMN usage_events.project IS 'Working directory as logged, else empty.';
COMMENT ON COLUMN usage_events.git_branch IS 'Git branch as logged, else empty.';
COMMENT ON COLUMN usage_events.is_subagent IS 'Whether a subagent made the request.';
COMMENT ON COLUMN usage_events.provider IS 'Vendor of the model.';
COMMENT ON COLUMN usage_events.model IS 'Model, from the raw name by syntax alone; never depends on a price list.';
COMMENT ON COLUMN usage_events.provider_raw IS 'Provider as logged.';
COMMENT ON COLUMN usage_events.model_raw IS 'Model as logged.';
COMMENT ON COLUMN usage_events.route IS 'How the model was bought when not from its vendor (openrouter, github-copilot, amazon-bedrock), else empty.';
COMMENT ON COLUMN usage_events.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN usage_events.service_tier IS 'standard, batch, flex, priority or fast.';
COMMENT ON COLUMN usage_events.status IS 'ok, error or aborted; agent logs hold only ok.';
COMMENT ON COLUMN usage_events.input_tokens IS 'Prompt tokens at the full rate: neither read from nor written to a cache.';
COMMENT ON COLUMN usage_events.output_tokens IS 'All completion tokens, reasoning included.';
COMMENT ON COLUMN usage_events.cache_read_tokens IS 'Prompt tokens served from a cache.';
COMMENT ON COLUMN usage_events.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time.';
COMMENT ON COLUMN usage_events.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour.';
COMMENT ON COLUMN usage_events.reasoning_tokens IS 'Reasoning tokens, for information: they are part of output_tokens.';
COMMENT ON COLUMN usage_events.web_search_requests IS 'Searches done by the vendor, billed per thousand.';
COMMENT ON COLUMN usage_events.premium_request_count IS 'Premium requests of plans that count them; 0 for agent logs.';
COMMENT ON COLUMN usage_events.reported_cost_usd IS 'Cost in USD as the agent wrote it, untouched; NULL when it wrote none.';
COMMENT ON COLUMN usage_events.time_quality IS 'exact, neighbour (the time of the record beside it) or mtime (the time of the file).';
COMMENT ON COLUMN usage_events.model_quality IS 'exact, configured (from the agent''s settings), fallback or none.';
COMMENT ON COLUMN usage_events.evidence IS 'message: one response seen by itself. aggregate: a sum somebody else made.';
COMMENT ON COLUMN usage_events.recorded_at IS 'When this warehouse first knew the response.';

CREATE SEQUENCE event_change_ids;
CREATE TABLE event_changes (
    change_id BIGINT NOT NULL DEFAULT nextval('event_change_ids'), event_id UUID NOT NULL, changed_at TIMESTAMPTZ NOT NULL,
    subject VARCHAR NOT NULL, reason VARCHAR NOT NULL, before JSON, after JSON
);
COMMENT ON TABLE event_changes IS 'Every change of an event that was already known: what it was, what it became, when and why.';
COMMENT ON COLUMN event_changes.change_id IS 'Ascending number of the change.';
COMMENT ON COLUMN event_changes.event_id IS 'The event that changed.';
COMMENT ON COLUMN event_changes.changed_at IS 'When it changed in this warehouse.';
COMMENT ON COLUMN event_changes.subject IS 'event (the event itself) or price (only what it costs).';
COMMENT ON COLUMN event_changes.reason IS 'Why, as a fixed phrase.';
COMMENT ON COLUMN event_changes.before IS 'The row before, as JSON; NULL when there was none.';
COMMENT ON COLUMN event_changes.after IS 'The row after, as JSON; NULL when the event was found to be a copy of another one.';

CREATE MACRO events_as_of(instant) AS TABLE
WITH first_change_after AS (
    SELECT event_id, arg_min(before, change_id) AS before FROM event_changes
    WHERE subject = 'event' AND changed_at > instant GROUP BY event_id
), restored AS (
    SELECT unnest(json_transform(before, '{
        "event_id": "UUID", "day": "DATE", "occurred_at": "TIMESTAMPTZ", "source": "VARCHAR", "account": "VARCHAR",
        "machine": "VARCHAR", "session_id": "VARCHAR", "project": "VARCHAR", "git_branch": "VARCHAR",
        "is_subagent": "BOOLEAN", "provider": "VARCHAR", "model": "VARCHAR", "provider_raw": "VARCHAR",
        "model_raw": "VARCHAR", "route": "VARCHAR", "endpoint": "VARCHAR", "service_tier": "VARCHAR", "status": "VARCHAR",
        "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cache_read_tokens": "BIGINT",
        "cache_write_5m_tokens": "BIGINT", "cache_write_1h_tokens": "BIGINT", "reasoning_tokens": "BIGINT",
        "web_search_requests": "BIGINT", "premium_request_count": "DECIMAL(18,4)", "reported_cost_usd": "DECIMAL(38,12)",
        "time_quality": "VARCHAR", "model_quality": "VARCHAR", "evidence": "VARCHAR", "recorded_at": "TIMESTAMPTZ"
    }')) FROM first_change_after
)
FROM usage_events WHERE recorded_at <= instant AND event_id NOT IN (SELECT event_id FROM first_change_after)
UNION ALL BY NAME
FROM restored WHERE recorded_at <= instant;

CREATE TABLE session_usage (
    dedupe_key VARCHAR NOT NULL, source VARCHAR NOT NULL, session_id VARCHAR NOT NULL, provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL, day DATE NOT NULL, events BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL,
    cost_usd DECIMAL(38, 12), unpriced_events BIGINT NOT NULL, first_at TIMESTAMPTZ NOT NULL, last_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (dedupe_key)
);
COMMENT ON TABLE session_usage IS 'Usage per source, session, provider, model and local day.';
COMMENT ON COLUMN session_usage.dedupe_key IS 'SHA-256 of "source:session:provider:model:day", lower-case hexadecimal.';
COMMENT ON COLUMN session_usage.source IS 'The agent.';
COMMENT ON COLUMN session_usage.session_id IS 'Session as logged, else the name of its file.';
COMMENT ON COLUMN session_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN session_usage.model IS 'Model.';
COMMENT ON COLUMN session_usage.day IS 'Local day in the reporting zone.';
COMMENT ON COLUMN session_usage.events IS 'Number of billed responses.';
COMMENT ON COLUMN session_usage.input_tokens IS 'Sum of input_tokens.';
COMMENT ON COLUMN session_usage.output_tokens IS 'Sum of output_tokens, reasoning included.';
COMMENT ON COLUMN session_usage.cache_read_tokens IS 'Sum of cache_read_tokens.';
COMMENT ON COLUMN session_usage.cache_write_5m_tokens IS 'Sum of cache_write_5m_tokens.';
COMMENT ON COLUMN session_usage.cache_write_1h_tokens IS 'Sum of cache_write_1h_tokens.';
COMMENT ON COLUMN session_usage.reasoning_tokens IS 'Sum of reasoning_tokens, part of output_tokens.';
COMMENT ON COLUMN session_usage.web_search_requests IS 'Sum of web_search_requests.';
COMMENT ON COLUMN session_usage.cost_usd IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN session_usage.unpriced_events IS 'Events without a known price; their cost is not in cost_usd.';
COMMENT ON COLUMN session_usage.first_at IS 'Instant of the first event.';
COMMENT ON COLUMN session_usage.last_at IS 'Instant of the last event.';

CREATE TABLE daily_usage (
    day DATE NOT NULL, source VARCHAR NOT NULL, account VARCHAR NOT NULL, machine VARCHAR NOT NULL, project VARCHAR NOT NULL,
    provider VARCHAR NOT NULL, model VARCHAR NOT NULL, endpoint VARCHAR NOT NULL, events BIGINT NOT NULL,
    sessions BIGINT NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    web_search_requests BIGINT NOT NULL, premium_request_count DECIMAL(38, 4) NOT NULL, cost_usd DECIMAL(38, 12),
    unpriced_events BIGINT NOT NULL
);
COMMENT ON TABLE daily_usage IS 'Usage per local day, source, account, machine, project, provider, model and endpoint.';
COMMENT ON COLUMN daily_usage.day IS 'Local day in the reporting zone.';
COMMENT ON COLUMN daily_usage.source IS 'The agent.';
COMMENT ON COLUMN daily_usage.account IS 'Label of the log root, else empty.';
COMMENT ON COLUMN daily_usage.machine IS 'Label of the machine.';
COMMENT ON COLUMN daily_usage.project IS 'Working directory as logged.';
COMMENT ON COLUMN daily_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN daily_usage.model IS 'Model.';
COMMENT ON COLUMN daily_usage.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN daily_usage.events IS 'Number of billed responses.';
COMMENT ON COLUMN daily_usage.sessions IS 'Number of different sessions.';
COMMENT ON COLUMN daily_usage.input_tokens IS 'Sum of input_tokens.';
COMMENT ON COLUMN daily_usage.output_tokens IS 'Sum of output_tokens, reasoning included.';
COMMENT ON COLUMN daily_usage.cache_read_tokens IS 'Sum of cache_read_tokens.';
COMMENT ON COLUMN daily_usage.cache_write_5m_tokens IS 'Sum of cache_write_5m_tokens.';
COMMENT ON COLUMN daily_usage.cache_write_1h_tokens IS 'Sum of cache_write_1h_tokens.';
COMMENT ON COLUMN daily_usage.reasoning_tokens IS 'Sum of reasoning_tokens, part of output_tokens.';
COMMENT ON COLUMN daily_usage.web_search_requests IS 'Sum of web_search_requests.';
COMMENT ON COLUMN daily_usage.premium_request_count IS 'Sum of premium_request_count.';
COMMENT ON COLUMN daily_usage.cost_usd IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN daily_usage.unpriced_events IS 'Events without a known price; their cost is not in cost_usd.';

CREATE TABLE log_files (
    file_id BIGINT PRIMARY KEY, source VARCHAR NOT NULL, account VARCHAR NOT NULL, path VARCHAR NOT NULL,
    mode VARCHAR NOT NULL, device UBIGINT NOT NULL, inode UBIGINT NOT NULL, size BIGINT NOT NULL, modified_ns BIGINT NOT NULL,
    read_to BIGINT NOT NULL, lines BIGINT NOT NULL, pending BIGINT NOT NULL, status VARCHAR NOT NULL,
    first_read_at TIMESTAMPTZ NOT NULL, last_read_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE log_files IS 'Every log file that was ever read, and how far. Rows stay when the file is gone.';
COMMENT ON COLUMN log_files.file_id IS 'Number of the file in this warehouse.';
COMMENT ON COLUMN log_files.source IS 'The agent.';
COMMENT ON COLUMN log_files.account IS 'Label of the log root, else empty.';
COMMENT ON COLUMN log_files.path IS 'Where the file is, or was.';
COMMENT ON COLUMN log_files.mode IS 'lines (grows at the end), document (replaced as a whole) or database.';
COMMENT ON COLUMN log_files.device IS 'Device number.';
COMMENT ON COLUMN log_files.inode IS 'Inode number.';
COMMENT ON COLUMN log_files.size IS 'Bytes when last seen.';
COMMENT ON COLUMN log_files.modified_ns IS 'Modification time when last seen, nanoseconds since the epoch; for a database that of its write-ahead log if newer.';
COMMENT ON COLUMN log_files.read_to IS 'Bytes read (decompressed); the next reading starts here.';
COMMENT ON COLUMN log_files.lines IS 'Lines read.';
COMMENT ON COLUMN log_files.pending IS 'Bytes of a last line that is not complete yet.';
COMMENT ON COLUMN log_files.status IS 'read, gone (no longer there; its events stay) or unreadable.';
COMMENT ON COLUMN log_files.first_read_at IS 'When it was first read.';
COMMENT ON COLUMN log_files.last_read_at IS 'When it was last read.';

CREATE TABLE rejects (
    source VARCHAR NOT NULL, path VARCHAR NOT NULL, line BIGINT, position BIGINT, reason VARCHAR NOT NULL,
    first_seen_at TIMESTAMPTZ NOT NULL, resolved_at TIMESTAMPTZ
);
COMMENT ON TABLE rejects IS 'What could not be used, and why. The text itself is never kept.';
COMMENT ON COLUMN rejects.source IS 'The agent.';
COMMENT ON COLUMN rejects.path IS 'The file or directory.';
COMMENT ON COLUMN rejects.line IS 'Line number from 1, where the file has lines.';
COMMENT ON COLUMN rejects.position IS 'Byte offset or row number, where it is known.';
COMMENT ON COLUMN rejects.reason IS 'Why, as a fixed phrase.';
COMMENT ON COLUMN rejects.first_seen_at IS 'When it was first met.';
COMMENT ON COLUMN rejects.resolved_at IS 'When a file that could not be read became readable; else NULL.';

CREATE SEQUENCE sync_run_ids;
CREATE TABLE sync_runs (
    run_id BIGINT PRIMARY KEY, started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ NOT NULL, trigger VARCHAR NOT NULL,
    version VARCHAR NOT NULL, timezone VARCHAR NOT NULL, tzdata_version VARCHAR NOT NULL, files_read BIGINT NOT NULL,
    bytes_read BIGINT NOT NULL, records_landed BIGINT NOT NULL, rejects BIGINT NOT NULL, days_touched BIGINT NOT NULL
);
COMMENT ON TABLE sync_runs IS 'One row per landing that read anything.';
COMMENT ON COLUMN sync_runs.run_id IS 'Ascending number.';
COMMENT ON COLUMN sync_runs.started_at IS 'When it started.';
COMMENT ON COLUMN sync_runs.finished_at IS 'When its last transaction was committed.';
COMMENT ON COLUMN sync_runs.trigger IS 'command or dagster.';
COMMENT ON COLUMN sync_runs.version IS 'Version of Kharcha Pipeline.';
COMMENT ON COLUMN sync_runs.timezone IS 'Reporting zone.';
COMMENT ON COLUMN sync_runs.tzdata_version IS 'Version of the zone data in use.';
COMMENT ON COLUMN sync_runs.files_read IS 'Files that had changed.';
COMMENT ON COLUMN sync_runs.bytes_read IS 'New bytes in them.';
COMMENT ON COLUMN sync_runs.records_landed IS 'Usage records not known before.';
COMMENT ON COLUMN sync_runs.rejects IS 'Rejects not known before.';
COMMENT ON COLUMN sync_runs.days_touched IS 'Local days whose events changed.';

CREATE TABLE rebuckets (
    changed_at TIMESTAMPTZ NOT NULL, zone_before VARCHAR NOT NULL, zone_after VARCHAR NOT NULL, days_before BIGINT NOT NULL,
    days_after BIGINT NOT NULL, events BIGINT NOT NULL, tokens BIGINT NOT NULL, cost_usd DECIMAL(38, 12)
);
COMMENT ON TABLE rebuckets IS 'One row per change of the reporting zone, with the totals, which are the same before and after.';
COMMENT ON COLUMN rebuckets.changed_at IS 'When.';
COMMENT ON COLUMN rebuckets.zone_before IS 'Zone before.';
COMMENT ON COLUMN rebuckets.zone_after IS 'Zone after.';
COMMENT ON COLUMN rebuckets.days_before IS 'Local days with events before.';
COMMENT ON COLUMN rebuckets.days_after IS 'Local days with events after.';
COMMENT ON COLUMN rebuckets.events IS 'Events, before and after.';
COMMENT ON COLUMN rebuckets.tokens IS 'Tokens of all five kinds, before and after.';
COMMENT ON COLUMN rebuckets.cost_usd IS 'Cost in USD, before and after; NULL when nothing is priced.';
