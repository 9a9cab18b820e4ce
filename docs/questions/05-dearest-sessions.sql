-- Which ten sessions cost the most, and how long did they go on?
SELECT
    source,
    session_id,
    sum(cost_usd) AS cost_usd,
    sum(events) AS events,
    sum(unpriced_events) AS unpriced_events,
    min(first_at) AS first_at,
    max(last_at) AS last_at,
    string_agg(DISTINCT model, ', ' ORDER BY model) AS models
FROM session_usage
GROUP BY source, session_id
ORDER BY cost_usd DESC NULLS LAST, source, session_id
LIMIT 10;
