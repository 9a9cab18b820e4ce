-- Views for analysts over priced events and rollups. A sum of costs is NULL when nothing in it is priced, and the
-- number of unpriced events always stands beside it.

CREATE OR REPLACE VIEW daily_rollups AS
SELECT
    day, provider, model, sum(events)::BIGINT AS events,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_5m_tokens)::BIGINT AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens)::BIGINT AS cache_write_1h_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, sum(unpriced_events)::BIGINT AS unpriced_events
FROM daily_usage GROUP BY day, provider, model;
COMMENT ON VIEW daily_rollups IS 'Usage per local day, provider and model.';
COMMENT ON COLUMN daily_rollups.day IS 'Local day in the reporting zone.';
COMMENT ON COLUMN daily_rollups.provider IS 'Vendor of the model.';
COMMENT ON COLUMN daily_rollups.model IS 'Model.';
COMMENT ON COLUMN daily_rollups.events IS 'Number of billed responses.';
COMMENT ON COLUMN daily_rollups.input_tokens IS 'Sum of input_tokens.';
COMMENT ON COLUMN daily_rollups.output_tokens IS 'Sum of output_tokens, reasoning included.';
COMMENT ON COLUMN daily_rollups.cache_read_tokens IS 'Sum of cache_read_tokens.';
COMMENT ON COLUMN daily_rollups.cache_write_5m_tokens IS 'Sum of cache_write_5m_tokens.';
COMMENT ON COLUMN daily_rollups.cache_write_1h_tokens IS 'Sum of cache_write_1h_tokens.';
COMMENT ON COLUMN daily_rollups.reasoning_tokens IS 'Sum of reasoning_tokens, part of output_tokens.';
COMMENT ON COLUMN daily_rollups.cost_usd IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN daily_rollups.unpriced_events IS 'Events without a known price; their cost is not in cost_usd.';

CREATE OR REPLACE VIEW monthly_usage AS
SELECT
    date_trunc('month', day)::DATE AS month, source, account, machine, project, provider, model, endpoint,
    sum(events)::BIGINT AS events, sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_5m_tokens)::BIGINT AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens)::BIGINT AS cache_write_1h_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, sum(unpriced_events)::BIGINT AS unpriced_events, count(DISTINCT day) AS active_days
FROM daily_usage GROUP BY ALL;
COMMENT ON VIEW monthly_usage IS 'Usage per calendar month of local days; otherwise the grain of daily_usage.';
COMMENT ON COLUMN monthly_usage.month IS 'First day of the calendar month.';
COMMENT ON COLUMN monthly_usage.source IS 'The agent.';
COMMENT ON COLUMN monthly_usage.account IS 'Label of the log root, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN monthly_usage.machine IS 'Label of the machine; empty for what belongs to a whole account.';
COMMENT ON COLUMN monthly_usage.project IS 'Working directory as logged.';
COMMENT ON COLUMN monthly_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN monthly_usage.model IS 'Model.';
COMMENT ON COLUMN monthly_usage.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN monthly_usage.events IS 'Number of billed responses.';
COMMENT ON COLUMN monthly_usage.input_tokens IS 'Sum of input_tokens.';
COMMENT ON COLUMN monthly_usage.output_tokens IS 'Sum of output_tokens, reasoning included.';
COMMENT ON COLUMN monthly_usage.cache_read_tokens IS 'Sum of cache_read_tokens.';
COMMENT ON COLUMN monthly_usage.cache_write_5m_tokens IS 'Sum of cache_write_5m_tokens.';
COMMENT ON COLUMN monthly_usage.cache_write_1h_tokens IS 'Sum of cache_write_1h_tokens.';
COMMENT ON COLUMN monthly_usage.reasoning_tokens IS 'Sum of reasoning_tokens, part of output_tokens.';
COMMENT ON COLUMN monthly_usage.cost_usd IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN monthly_usage.unpriced_events IS 'Events without a known price; their cost is not in cost_usd.';
COMMENT ON COLUMN monthly_usage.active_days IS 'Local days of the month with at least one response in this row.';

CREATE OR REPLACE VIEW hourly_usage AS
SELECT
    date_trunc('hour', occurred_at) AS hour, day, source, provider, model, count(*) AS events,
    coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens, coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
    coalesce(sum(cache_read_tokens), 0)::BIGINT AS cache_read_tokens, coalesce(sum(cache_write_5m_tokens), 0)::BIGINT AS cache_write_5m_tokens,
    coalesce(sum(cache_write_1h_tokens), 0)::BIGINT AS cache_write_1h_tokens, coalesce(sum(reasoning_tokens), 0)::BIGINT AS reasoning_tokens,
    sum(cost_usd) AS cost_usd, count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_events
FROM priced_events WHERE evidence <> 'aggregate' GROUP BY 1, day, source, provider, model;
COMMENT ON VIEW hourly_usage IS 'Usage per hour (an instant: the start of the hour), local day, source, provider and model. Without sums that somebody else made, which have no hour.';
COMMENT ON COLUMN hourly_usage.hour IS 'Start of the hour, an instant.';
COMMENT ON COLUMN hourly_usage.day IS 'Local day in the reporting zone.';
COMMENT ON COLUMN hourly_usage.source IS 'The agent.';
COMMENT ON COLUMN hourly_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN hourly_usage.model IS 'Model.';
COMMENT ON COLUMN hourly_usage.events IS 'Number of billed responses.';
COMMENT ON COLUMN hourly_usage.input_tokens IS 'Sum of input_tokens.';
COMMENT ON COLUMN hourly_usage.output_tokens IS 'Sum of output_tokens, reasoning included.';
COMMENT ON COLUMN hourly_usage.cache_read_tokens IS 'Sum of cache_read_tokens.';
COMMENT ON COLUMN hourly_usage.cache_write_5m_tokens IS 'Sum of cache_write_5m_tokens.';
COMMENT ON COLUMN hourly_usage.cache_write_1h_tokens IS 'Sum of cache_write_1h_tokens.';
COMMENT ON COLUMN hourly_usage.reasoning_tokens IS 'Sum of reasoning_tokens, part of output_tokens.';
COMMENT ON COLUMN hourly_usage.cost_usd IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN hourly_usage.unpriced_events IS 'Events without a known price; their cost is not in cost_usd.';

CREATE OR REPLACE VIEW usage_daily AS
SELECT
    day, account AS account_name, model AS model_id, endpoint, sum(events)::BIGINT AS req_count,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_tokens)::BIGINT AS cached_input_tokens,
    sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS cache_creation_tokens,
    sum(output_tokens)::BIGINT AS output_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(premium_request_count) AS premium_request_count, sum(cost_usd) AS cost_usd,
    sum(unpriced_events)::BIGINT AS unpriced_events,
    sum(failed_events)::BIGINT AS failed_events, sum(aborted_events)::BIGINT AS aborted_events
FROM daily_usage GROUP BY day, account, model, endpoint;
COMMENT ON VIEW usage_daily IS 'Usage per local day, account, model and endpoint: the grain of request recorders.';
COMMENT ON COLUMN usage_daily.day IS 'Local day in the reporting zone.';
COMMENT ON COLUMN usage_daily.account_name IS 'Label of the log root, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN usage_daily.model_id IS 'Model.';
COMMENT ON COLUMN usage_daily.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN usage_daily.req_count IS 'Number of requests: billed responses, and recorded calls that failed or were broken off.';
COMMENT ON COLUMN usage_daily.input_tokens IS 'Sum of input_tokens: uncached prompt tokens.';
COMMENT ON COLUMN usage_daily.cached_input_tokens IS 'Sum of cache_read_tokens; not part of input_tokens.';
COMMENT ON COLUMN usage_daily.cache_creation_tokens IS 'Sum of cache_write_5m_tokens and cache_write_1h_tokens.';
COMMENT ON COLUMN usage_daily.output_tokens IS 'Sum of output_tokens, reasoning included.';
COMMENT ON COLUMN usage_daily.reasoning_tokens IS 'Sum of reasoning_tokens, part of output_tokens.';
COMMENT ON COLUMN usage_daily.premium_request_count IS 'Sum of premium_request_count.';
COMMENT ON COLUMN usage_daily.cost_usd IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN usage_daily.unpriced_events IS 'Events without a known price; their cost is not in cost_usd.';
COMMENT ON COLUMN usage_daily.failed_events IS 'Calls that ended in an error; part of req_count.';
COMMENT ON COLUMN usage_daily.aborted_events IS 'Calls that the caller broke off; part of req_count.';

CREATE OR REPLACE VIEW token_usage AS
SELECT
    day AS date, source AS agent, provider, model, machine,
    sum(input_tokens)::BIGINT AS "inputTokens",
    (sum(output_tokens) - least(sum(reasoning_tokens), sum(output_tokens)))::BIGINT AS "outputTokens",
    sum(cache_read_tokens)::BIGINT AS "cacheReadTokens",
    sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS "cacheWriteTokens",
    least(sum(reasoning_tokens), sum(output_tokens))::BIGINT AS "reasoningTokens",
    sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT
        AS "totalTokens",
    sum(cost_usd) AS "costUsd", sum(events)::BIGINT AS messages
FROM daily_usage GROUP BY day, source, provider, model, machine;
COMMENT ON VIEW token_usage IS 'Usage per local day, agent, provider, model and machine under the field names of the ingest contract: outputTokens leaves reasoningTokens out, costUsd is NULL when nothing is priced.';
COMMENT ON COLUMN token_usage.date IS 'Local day in the reporting zone.';
COMMENT ON COLUMN token_usage.agent IS 'The agent: source in the other tables.';
COMMENT ON COLUMN token_usage.provider IS 'Vendor of the model.';
COMMENT ON COLUMN token_usage.model IS 'Model.';
COMMENT ON COLUMN token_usage.machine IS 'Label of the machine; empty for what belongs to a whole account.';
COMMENT ON COLUMN token_usage."inputTokens" IS 'Sum of input_tokens: uncached prompt tokens.';
COMMENT ON COLUMN token_usage."outputTokens" IS 'Sum of output_tokens less reasoningTokens.';
COMMENT ON COLUMN token_usage."cacheReadTokens" IS 'Sum of cache_read_tokens.';
COMMENT ON COLUMN token_usage."cacheWriteTokens" IS 'Sum of cache_write_5m_tokens and cache_write_1h_tokens.';
COMMENT ON COLUMN token_usage."reasoningTokens" IS 'Sum of reasoning_tokens, at most that of output_tokens; here beside outputTokens, not in it.';
COMMENT ON COLUMN token_usage."totalTokens" IS 'Sum of the five counts before it.';
COMMENT ON COLUMN token_usage."costUsd" IS 'Cost of the priced events in USD; NULL when none is priced.';
COMMENT ON COLUMN token_usage.messages IS 'Number of billed responses.';
