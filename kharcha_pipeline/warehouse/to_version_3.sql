-- From schema version 2 to 3: events may be sums that somebody else made, calls may fail, and `session_usage` has no primary key
-- any more, which DuckDB cannot take from a table. Its index was written out as a whole whenever a day was built, and grew
-- with the history.

ALTER TABLE core.usage_events ADD COLUMN responses BIGINT DEFAULT 1;
ALTER TABLE core.usage_events ALTER COLUMN responses SET NOT NULL;
ALTER TABLE core.usage_events ALTER COLUMN responses DROP DEFAULT;
ALTER TABLE core.usage_events ADD COLUMN reported_total_tokens BIGINT;

ALTER TABLE core.priced_events ADD COLUMN responses BIGINT DEFAULT 1;
ALTER TABLE core.priced_events ALTER COLUMN responses SET NOT NULL;
ALTER TABLE core.priced_events ALTER COLUMN responses DROP DEFAULT;
ALTER TABLE core.priced_events ADD COLUMN reported_total_tokens BIGINT;

INSERT INTO core.prices (price_id, pricing_status, price_basis) VALUES
    (md5('reported sum')::UUID, 'estimated', 'reported'), (md5('unused')::UUID, 'exact', 'unused');

ALTER TABLE daily_usage ADD COLUMN failed_events BIGINT DEFAULT 0;
ALTER TABLE daily_usage ALTER COLUMN failed_events SET NOT NULL;
ALTER TABLE daily_usage ALTER COLUMN failed_events DROP DEFAULT;
ALTER TABLE daily_usage ADD COLUMN aborted_events BIGINT DEFAULT 0;
ALTER TABLE daily_usage ALTER COLUMN aborted_events SET NOT NULL;
ALTER TABLE daily_usage ALTER COLUMN aborted_events DROP DEFAULT;
ALTER TABLE daily_usage ALTER COLUMN sessions DROP NOT NULL;
COMMENT ON COLUMN daily_usage.sessions IS 'Number of different sessions; NULL where none is known.';
COMMENT ON COLUMN daily_usage.failed_events IS 'Calls that ended in an error. Only recorded calls can have.';
COMMENT ON COLUMN daily_usage.aborted_events IS 'Calls that the caller broke off. Only recorded calls can be.';

ALTER TABLE session_usage RENAME TO session_usage_before;
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
INSERT INTO session_usage BY NAME FROM session_usage_before ORDER BY day, source, session_id, provider, model;
DROP TABLE session_usage_before;
COMMENT ON COLUMN daily_usage.account IS 'Label of the log root or account of the recorded call, else empty.';
