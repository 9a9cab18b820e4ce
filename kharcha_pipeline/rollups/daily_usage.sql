-- One row per local day, source, account, machine, project, provider, model, endpoint. Parameters: $first, $last, $days.
INSERT INTO daily_usage BY NAME
SELECT
    day, source, account, machine, project, provider, model, endpoint,
    sum(responses)::BIGINT AS events,
    nullif(count(DISTINCT nullif(session_id, '')), 0) AS sessions,
    coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
    coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
    coalesce(sum(cache_read_tokens), 0)::BIGINT AS cache_read_tokens,
    coalesce(sum(cache_write_5m_tokens), 0)::BIGINT AS cache_write_5m_tokens,
    coalesce(sum(cache_write_1h_tokens), 0)::BIGINT AS cache_write_1h_tokens,
    coalesce(sum(reasoning_tokens), 0)::BIGINT AS reasoning_tokens,
    sum(web_search_requests)::BIGINT AS web_search_requests,
    sum(premium_request_count) AS premium_request_count,
    sum(cost_usd) AS cost_usd,
    coalesce(sum(responses) FILTER (WHERE cost_usd IS NULL), 0)::BIGINT AS unpriced_events,
    count(*) FILTER (WHERE status = 'error') AS failed_events,
    count(*) FILTER (WHERE status = 'aborted') AS aborted_events
FROM priced_events  -- unknown token counts are NULL there
WHERE day BETWEEN $first AND $last AND day IN (SELECT unnest($days::DATE[]))
GROUP BY day, source, account, machine, project, provider, model, endpoint
ORDER BY day, source, account, machine, project, provider, model, endpoint;
