-- From schema version 1 to 2, after the raw records were archived: the texts of events move to `core.contexts` and `core.prices`,
-- and `usage_events` and `priced_events` become views of narrow tables in `core`.

COMMENT ON TABLE raw.family_batches IS 'Which batches hold records of an identity group. `family_key` is a hash of source and family.';
CREATE TABLE raw.family_keys AS
SELECT DISTINCT source, family_key AS key_before, md5_number_lower(source || ':' || family) AS family_key
FROM raw.usage_records;
DROP TABLE raw.numbered_records;
DROP TABLE raw.usage_records;
ALTER TABLE raw.new_records RENAME TO usage_records;
COMMENT ON TABLE raw.usage_records IS 'What the sources said, as they said it, kept for ever: where in the archive each batch of records lies. A batch is JSON, a list of [file_id, position, line, family, record]; `family` names the identity group.';

CREATE SCHEMA core;

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

CREATE TABLE raw.all_events AS
SELECT *, md5(to_json({
    'source': source, 'account': account, 'session_id': session_id, 'project': project, 'git_branch': git_branch,
    'is_subagent': is_subagent, 'provider': provider, 'model': model, 'provider_raw': provider_raw,
    'model_raw': model_raw, 'route': route, 'endpoint': endpoint, 'service_tier': service_tier, 'status': status,
    'premium_request_count': premium_request_count, 'time_quality': time_quality, 'model_quality': model_quality,
    'evidence': evidence
})::VARCHAR)::UUID AS digest, FROM (
    SELECT normalized.*, family_keys.family_key FROM raw.normalized_records AS normalized
    JOIN raw.settled_records AS settled USING (event_id)
    JOIN raw.family_keys ON family_keys.source = settled.source AND family_keys.key_before = settled.family_key
);
CREATE TABLE raw.all_priced_events AS
SELECT *, md5(to_json({
    'source': source, 'account': account, 'session_id': session_id, 'project': project, 'git_branch': git_branch,
    'is_subagent': is_subagent, 'provider': provider, 'model': model, 'provider_raw': provider_raw,
    'model_raw': model_raw, 'route': route, 'endpoint': endpoint, 'service_tier': service_tier, 'status': status,
    'premium_request_count': premium_request_count, 'time_quality': time_quality, 'model_quality': model_quality,
    'evidence': evidence
})::VARCHAR)::UUID AS digest, CASE
    WHEN price_basis = 'reported' THEN md5('reported')::UUID
    WHEN pricing_status = 'unpriced' THEN md5('unpriced')::UUID
    ELSE md5(concat_ws(
        chr(31), pricing_status, price_provider, price_model, snapshot_day, snapshot_revision, price_variant, price_tier,
        price_basis
    ))::UUID
END AS price_id FROM priced_events;

INSERT INTO core.contexts BY NAME
SELECT nextval('core.context_ids') AS context_id, * FROM (
    SELECT digest, source, account, session_id, project, git_branch, is_subagent, provider, model, provider_raw,
        model_raw, route, endpoint, service_tier, status, premium_request_count, time_quality, model_quality, evidence
    FROM (FROM raw.all_events UNION ALL BY NAME FROM raw.all_priced_events)
    GROUP BY ALL ORDER BY min(occurred_at), digest
);

CREATE TABLE core.usage_events (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, family_key UBIGINT NOT NULL,
    context_id BIGINT NOT NULL, machine VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL, reported_cost_usd DECIMAL(38, 12),
    recorded_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE core.usage_events IS 'One row per billed response after all copies of it were compared, in day order: the view usage_events without its texts.';
INSERT INTO core.usage_events BY NAME
SELECT event_id, day, occurred_at, family_key, context_id, machine, input_tokens, output_tokens, cache_read_tokens,
    cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, web_search_requests, reported_cost_usd, recorded_at
FROM raw.all_events JOIN core.contexts USING (digest) ORDER BY day, occurred_at, event_id;

CREATE TABLE core.prices (
    price_id UUID NOT NULL, pricing_status VARCHAR NOT NULL, price_provider VARCHAR, price_model VARCHAR, snapshot_day DATE,
    snapshot_revision INTEGER, price_variant VARCHAR, price_tier BIGINT, price_basis VARCHAR
);
COMMENT ON TABLE core.prices IS 'By what events are priced: the evidence that many costs have in common. `price_id` is a digest of the rest.';
INSERT INTO core.prices (price_id, pricing_status, price_basis) VALUES
    (md5('reported')::UUID, 'exact', 'reported'), (md5('unpriced')::UUID, 'unpriced', NULL);
INSERT INTO core.prices BY NAME
SELECT DISTINCT price_id, pricing_status, price_provider, price_model, snapshot_day, snapshot_revision, price_variant,
    price_tier, price_basis
FROM raw.all_priced_events WHERE price_id NOT IN (SELECT price_id FROM core.prices);

CREATE TABLE core.priced_events (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, context_id BIGINT NOT NULL,
    machine VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL, reported_cost_usd DECIMAL(38, 12),
    recorded_at TIMESTAMPTZ NOT NULL, cost_usd DECIMAL(38, 12), price_id UUID NOT NULL
);
COMMENT ON TABLE core.priced_events IS 'Usage events with what they cost, in day order: the view priced_events without its texts.';
INSERT INTO core.priced_events BY NAME
SELECT event_id, day, occurred_at, context_id, machine, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
    cache_write_1h_tokens, reasoning_tokens, web_search_requests, reported_cost_usd, recorded_at, cost_usd, price_id
FROM raw.all_priced_events JOIN core.contexts USING (digest) ORDER BY day, occurred_at, event_id;

DROP TABLE raw.all_events;
DROP TABLE raw.all_priced_events;
DROP TABLE raw.family_keys;
DROP VIEW raw.normalized_records;
DROP TABLE raw.settled_records;
DROP TABLE raw.model_names;
DROP MACRO TABLE events_as_of;
DROP TABLE usage_events;
DROP TABLE priced_events;
