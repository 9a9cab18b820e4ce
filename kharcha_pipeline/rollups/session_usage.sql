-- One row per source, session, provider, model and local day. Parameters: $first, $last, $days.
INSERT INTO session_usage BY NAME
SELECT
    sha256(concat_ws(':', source, session_id, provider, model, strftime(day, '%Y-%m-%d'))) AS dedupe_key,
    source, session_id, provider, model, day,
    sum(responses)::BIGINT AS events,
    coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
    coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
    coalesce(sum(cache_read_tokens), 0)::BIGINT AS cache_read_tokens,
    coalesce(sum(cache_write_5m_tokens), 0)::BIGINT AS cache_write_5m_tokens,
    coalesce(sum(cache_write_1h_tokens), 0)::BIGINT AS cache_write_1h_tokens,
    coalesce(sum(reasoning_tokens), 0)::BIGINT AS reasoning_tokens,
    sum(web_search_requests)::BIGINT AS web_search_requests,
    sum(cost_usd) AS cost_usd,
    coalesce(sum(responses) FILTER (WHERE cost_usd IS NULL), 0)::BIGINT AS unpriced_events,
    min(occurred_at) AS first_at,
    max(occurred_at) AS last_at
FROM priced_events  -- unknown token counts are NULL there
WHERE day BETWEEN $first AND $last AND day IN (SELECT unnest($days::DATE[]))
GROUP BY source, session_id, provider, model, day
ORDER BY day, source, session_id, provider, model;
