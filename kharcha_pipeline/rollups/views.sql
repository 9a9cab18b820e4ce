-- Views for analysts over priced events and rollups. A sum of costs is NULL when nothing in it is priced, and the
-- number of unpriced events always stands beside it.

CREATE VIEW daily_rollups AS
SELECT
    day, provider, model, sum(events)::BIGINT AS events,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_5m_tokens)::BIGINT AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens)::BIGINT AS cache_write_1h_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, sum(unpriced_events)::BIGINT AS unpriced_events
FROM daily_usage GROUP BY day, provider, model;
COMMENT ON VIEW daily_rollups IS 'Usage per local day, provider and model.';

CREATE VIEW monthly_usage AS
SELECT
    date_trunc('month', day)::DATE AS month, source, account, machine, project, provider, model, endpoint,
    sum(events)::BIGINT AS events, sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_5m_tokens)::BIGINT AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens)::BIGINT AS cache_write_1h_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, sum(unpriced_events)::BIGINT AS unpriced_events, count(DISTINCT day) AS active_days
FROM daily_usage GROUP BY ALL;
COMMENT ON VIEW monthly_usage IS 'Usage per calendar month of local days; otherwise the grain of daily_usage.';

CREATE VIEW hourly_usage AS
SELECT
    date_trunc('hour', occurred_at) AS hour, any_value(day) AS day, source, provider, model, count(*) AS events,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_5m_tokens)::BIGINT AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens)::BIGINT AS cache_write_1h_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_events
FROM priced_events GROUP BY 1, source, provider, model;
COMMENT ON VIEW hourly_usage IS 'Usage per hour (an instant: the start of the hour), source, provider and model.';

CREATE VIEW usage_daily AS
SELECT
    day, account AS account_name, model AS model_id, endpoint, sum(events)::BIGINT AS req_count,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_tokens)::BIGINT AS cached_input_tokens,
    sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS cache_creation_tokens,
    sum(output_tokens)::BIGINT AS output_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(premium_request_count) AS premium_request_count, sum(cost_usd) AS cost_usd,
    sum(unpriced_events)::BIGINT AS unpriced_events
FROM daily_usage GROUP BY day, account, model, endpoint;
COMMENT ON VIEW usage_daily IS 'Usage per local day, account, model and endpoint: the grain of request recorders.';

CREATE VIEW token_usage AS
SELECT
    day AS date, source AS agent, provider, model, machine,
    sum(input_tokens)::BIGINT AS "inputTokens",
    greatest(sum(output_tokens) - sum(reasoning_tokens), 0)::BIGINT AS "outputTokens",
    sum(cache_read_tokens)::BIGINT AS "cacheReadTokens",
    sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS "cacheWriteTokens",
    sum(reasoning_tokens)::BIGINT AS "reasoningTokens",
    sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT
        AS "totalTokens",
    sum(cost_usd) AS "costUsd", sum(events)::BIGINT AS messages
FROM daily_usage GROUP BY day, source, provider, model, machine;
COMMENT ON VIEW token_usage IS 'Usage per local day, agent, provider, model and machine under the field names of the ingest contract: outputTokens leaves reasoningTokens out, costUsd is NULL when nothing is priced.';
