-- Turns a copy of the warehouse into what analysts get: no raw layer, no internals, and every event once.
CREATE TABLE about AS
SELECT name, value FROM operations.facts WHERE name IN ('schema_version', 'timezone', 'changes')
UNION ALL SELECT 'published_at', strftime(now() AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ');
COMMENT ON TABLE about IS 'Facts about this database: schema version, reporting zone, state of the warehouse, time of publishing.';
COMMENT ON COLUMN about.name IS 'Which fact.';
COMMENT ON COLUMN about.value IS 'Its value as text.';
DROP SCHEMA raw CASCADE;
DROP SCHEMA operations CASCADE;
DROP TABLE core.usage_events;
CREATE VIEW core.usage_events AS SELECT * EXCLUDE (cost_usd, price_id) FROM core.priced_events;
COMMENT ON VIEW core.usage_events IS 'What core.priced_events holds, without prices.';
