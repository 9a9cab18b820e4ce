-- From schema version 2 to 3: events may be sums that somebody else made, and calls may fail.

ALTER TABLE core.usage_events ADD COLUMN responses BIGINT DEFAULT 1;
ALTER TABLE core.usage_events ALTER COLUMN responses SET NOT NULL;
ALTER TABLE core.usage_events ALTER COLUMN responses DROP DEFAULT;
ALTER TABLE core.usage_events ADD COLUMN reported_total_tokens BIGINT;

ALTER TABLE core.priced_events ADD COLUMN responses BIGINT DEFAULT 1;
ALTER TABLE core.priced_events ALTER COLUMN responses SET NOT NULL;
ALTER TABLE core.priced_events ALTER COLUMN responses DROP DEFAULT;
ALTER TABLE core.priced_events ADD COLUMN reported_total_tokens BIGINT;

INSERT INTO core.prices (price_id, pricing_status, price_basis) VALUES (md5('reported sum')::UUID, 'estimated', 'reported');

ALTER TABLE daily_usage ADD COLUMN failed_events BIGINT DEFAULT 0;
ALTER TABLE daily_usage ALTER COLUMN failed_events SET NOT NULL;
ALTER TABLE daily_usage ALTER COLUMN failed_events DROP DEFAULT;
ALTER TABLE daily_usage ADD COLUMN aborted_events BIGINT DEFAULT 0;
ALTER TABLE daily_usage ALTER COLUMN aborted_events SET NOT NULL;
ALTER TABLE daily_usage ALTER COLUMN aborted_events DROP DEFAULT;
COMMENT ON COLUMN daily_usage.sessions IS 'Number of different sessions; 0 where sessions are not known.';
COMMENT ON COLUMN daily_usage.failed_events IS 'Calls that ended in an error. Only recorded calls can have.';
COMMENT ON COLUMN daily_usage.aborted_events IS 'Calls that the caller broke off. Only recorded calls can be.';
