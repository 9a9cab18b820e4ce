-- The tables of the warehouse, version 4. `main` is what analysts see in the published copy, `core` what its views of events
-- are made of; `raw` and `operations` stay here. Views are in files of their own: they hold nothing, and are made anew by
-- every migration.
-- Event-sized tables have no primary key or index: uniqueness comes from how rows are written, and is checked. So it is with
-- `session_usage`, which grows as they do: DuckDB writes an index out as a whole when a single day changed. Events are
-- numbers alone. A text column costs five times as much to write as one of numbers, and what texts say about an event
-- (its session, project, model, price) repeats, so it stands once, in `core.contexts` and `core.prices`.

CREATE SCHEMA raw;
CREATE SCHEMA core;
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
    position BIGINT NOT NULL, size BIGINT NOT NULL, source VARCHAR NOT NULL, landed_at TIMESTAMPTZ NOT NULL, records BIGINT NOT NULL
);
COMMENT ON TABLE raw.usage_records IS 'What the sources said, as they said it, kept for ever: where in the archive each batch of records lies. A batch is JSON, a list of [file_id, position, line, family, record]; `family` names the identity group.';

CREATE TABLE raw.family_batches (family_key UBIGINT NOT NULL, position BIGINT NOT NULL);
COMMENT ON TABLE raw.family_batches IS 'Which batches hold records of an identity group. `family_key` is a hash of source and family.';

CREATE TABLE raw.related_families (source VARCHAR NOT NULL, family VARCHAR NOT NULL, related VARCHAR NOT NULL);
COMMENT ON TABLE raw.related_families IS 'Which identity groups must be settled again when another one grows (a fork and its parent).';

-- ---------------------------------------------------------------------------------------------------- core

CREATE SEQUENCE core.context_ids;
CREATE TABLE core.contexts (
    context_id BIGINT NOT NULL, digest UUID NOT NULL, source VARCHAR NOT NULL, account VARCHAR NOT NULL,
    session_id VARCHAR NOT NULL, project VARCHAR NOT NULL, git_branch VARCHAR NOT NULL, is_subagent BOOLEAN NOT NULL,
    provider VARCHAR NOT NULL, model VARCHAR NOT NULL, provider_raw VARCHAR NOT NULL, model_raw VARCHAR NOT NULL,
    route VARCHAR NOT NULL, endpoint VARCHAR NOT NULL, service_tier VARCHAR NOT NULL, status VARCHAR NOT NULL,
    premium_request_count DECIMAL(18, 4) NOT NULL, time_quality VARCHAR NOT NULL, model_quality VARCHAR NOT NULL,
    evidence VARCHAR NOT NULL
);
COMMENT ON TABLE core.contexts IS 'What many events have in common: where they come from, names as logged and normalized. Numbered as they arrive, so that the contexts of one day lie together.';

CREATE TABLE core.usage_events (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, family_key UBIGINT NOT NULL,
    context_id BIGINT NOT NULL, machine VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL, reported_cost_usd DECIMAL(38, 12),
    recorded_at TIMESTAMPTZ NOT NULL, responses BIGINT NOT NULL, reported_total_tokens BIGINT
);
COMMENT ON TABLE core.usage_events IS 'One row per billed response after all copies of it were compared, in day order: the view usage_events without its texts.';

-- ---------------------------------------------------------------------------------------------------- main

CREATE SEQUENCE event_change_ids;
CREATE TABLE event_changes (
    change_id BIGINT NOT NULL DEFAULT nextval('event_change_ids'), event_id UUID NOT NULL, changed_at TIMESTAMPTZ NOT NULL,
    subject VARCHAR NOT NULL, reason VARCHAR NOT NULL, before JSON, after JSON
);
COMMENT ON TABLE event_changes IS 'Every change of an event, or of what a vendor says of an account, that was already known: what it was, what it became, when and why.';
COMMENT ON COLUMN event_changes.change_id IS 'Ascending number of the change.';
COMMENT ON COLUMN event_changes.event_id IS 'The event that changed, or the item_id of what a vendor said.';
COMMENT ON COLUMN event_changes.changed_at IS 'When it changed in this warehouse.';
COMMENT ON COLUMN event_changes.subject IS 'event (the event itself), price (only what it costs), or what a vendor said: vendor_event (of an account that does not count), report, period, invoice, limit or member.';
COMMENT ON COLUMN event_changes.reason IS 'Why, as a fixed phrase.';
COMMENT ON COLUMN event_changes.before IS 'The row before, as JSON; NULL when there was none.';
COMMENT ON COLUMN event_changes.after IS 'The row after, as JSON; NULL when the event was found to be a copy of another one, or is shown no longer.';

CREATE TABLE session_usage (
    dedupe_key VARCHAR NOT NULL, source VARCHAR NOT NULL, session_id VARCHAR NOT NULL, provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL, day DATE NOT NULL, events BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL,
    cost_usd DECIMAL(38, 12), unpriced_events BIGINT NOT NULL, first_at TIMESTAMPTZ NOT NULL, last_at TIMESTAMPTZ NOT NULL
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
    sessions BIGINT, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    web_search_requests BIGINT NOT NULL, premium_request_count DECIMAL(38, 4) NOT NULL, cost_usd DECIMAL(38, 12),
    unpriced_events BIGINT NOT NULL, failed_events BIGINT NOT NULL, aborted_events BIGINT NOT NULL
);
COMMENT ON TABLE daily_usage IS 'Usage per local day, source, account, machine, project, provider, model and endpoint.';
COMMENT ON COLUMN daily_usage.day IS 'Local day in the reporting zone.';
COMMENT ON COLUMN daily_usage.source IS 'The agent, or the vendor''s product whose account shows it.';
COMMENT ON COLUMN daily_usage.account IS 'Label of the log root, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN daily_usage.machine IS 'Label of the machine; empty for what belongs to a whole account.';
COMMENT ON COLUMN daily_usage.project IS 'Working directory as logged.';
COMMENT ON COLUMN daily_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN daily_usage.model IS 'Model.';
COMMENT ON COLUMN daily_usage.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN daily_usage.events IS 'Number of billed responses.';
COMMENT ON COLUMN daily_usage.sessions IS 'Number of different sessions; NULL where none is known.';
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
COMMENT ON COLUMN daily_usage.failed_events IS 'Calls that ended in an error. Only recorded calls can have.';
COMMENT ON COLUMN daily_usage.aborted_events IS 'Calls that the caller broke off. Only recorded calls can be.';

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
