-- Turns a copy of the warehouse into what analysts get: no raw layer, no internals, and no column twice.
CREATE TABLE about AS
SELECT name, value FROM operations.facts WHERE name IN ('schema_version', 'timezone', 'changes')
UNION ALL SELECT 'published_at', strftime(now() AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ');
COMMENT ON TABLE about IS 'Facts about this database: schema version, reporting zone, state of the warehouse, time of publishing.';
COMMENT ON COLUMN about.name IS 'Which fact.';
COMMENT ON COLUMN about.value IS 'Its value as text.';
DROP SCHEMA raw CASCADE;
DROP SCHEMA operations CASCADE;
