-- Turns a copy of the warehouse into what analysts get: no raw layer, no internals, and every event once.
CREATE TABLE about AS
SELECT name, value FROM operations.facts WHERE name IN ('schema_version', 'timezone', 'changes')
UNION ALL SELECT 'published_at', strftime(now() AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ');
COMMENT ON TABLE about IS 'Facts about this database: schema version, reporting zone, state of the warehouse, time of publishing.';
COMMENT ON COLUMN about.name IS 'Which fact.';
COMMENT ON COLUMN about.value IS 'Its value as text.';
CREATE TABLE aggregate_usage AS
SELECT
    day, source, account, machine, provider, model, provider_raw, model_raw, responses, input_tokens, output_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, reported_total_tokens, total_mismatch, reported_cost_usd,
    event_id IN (SELECT event_id FROM priced_events WHERE evidence = 'aggregate') AS is_counted, recorded_at, event_id
FROM usage_events WHERE evidence = 'aggregate' ORDER BY day, source, account, machine, provider, model, event_id;
COMMENT ON TABLE aggregate_usage IS 'Sums that somebody else made: what other machines sent, and usage reports of vendors. Where the single responses of a source, machine and day are known, or of a vendor account and day, they count and the sum does not.';
COMMENT ON COLUMN aggregate_usage.day IS 'Local day as sent; of a vendor''s report the UTC day.';
COMMENT ON COLUMN aggregate_usage.source IS 'The agent, or the vendor''s product.';
COMMENT ON COLUMN aggregate_usage.account IS 'Name of the vendor account, else empty.';
COMMENT ON COLUMN aggregate_usage.machine IS 'Label of the machine as sent; empty for what belongs to a whole account.';
COMMENT ON COLUMN aggregate_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN aggregate_usage.model IS 'Model, from the name as sent by syntax alone.';
COMMENT ON COLUMN aggregate_usage.provider_raw IS 'Provider as sent.';
COMMENT ON COLUMN aggregate_usage.model_raw IS 'Model as sent.';
COMMENT ON COLUMN aggregate_usage.responses IS 'Number of billed responses.';
COMMENT ON COLUMN aggregate_usage.input_tokens IS 'Uncached prompt tokens.';
COMMENT ON COLUMN aggregate_usage.output_tokens IS 'Completion tokens, reasoning included.';
COMMENT ON COLUMN aggregate_usage.cache_read_tokens IS 'Prompt tokens served from a cache.';
COMMENT ON COLUMN aggregate_usage.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time.';
COMMENT ON COLUMN aggregate_usage.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour.';
COMMENT ON COLUMN aggregate_usage.reasoning_tokens IS 'Reasoning tokens, part of output_tokens.';
COMMENT ON COLUMN aggregate_usage.reported_total_tokens IS 'Total as sent.';
COMMENT ON COLUMN aggregate_usage.total_mismatch IS 'Whether that is not the sum of the five counts.';
COMMENT ON COLUMN aggregate_usage.reported_cost_usd IS 'Cost in USD as sent; NULL when the sender knew none.';
COMMENT ON COLUMN aggregate_usage.is_counted IS 'Whether it is in the other tables.';
COMMENT ON COLUMN aggregate_usage.recorded_at IS 'When this warehouse first knew it.';
COMMENT ON COLUMN aggregate_usage.event_id IS 'Its identity, as in priced_events and event_changes.';
DROP SCHEMA raw CASCADE;
DROP SCHEMA operations CASCADE;
DROP TABLE core.usage_events;
CREATE VIEW core.usage_events AS SELECT * EXCLUDE (cost_usd, price_id) FROM core.priced_events;
COMMENT ON VIEW core.usage_events IS 'What core.priced_events holds, without prices.';
