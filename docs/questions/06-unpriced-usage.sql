-- Which models have no known price, and how much usage is that?
-- `kharcha prices unpriced` tells why, and how to state a price.
SELECT
    provider,
    model,
    sum(unpriced_events) AS unpriced_events,
    round(100 * sum(unpriced_events)::DECIMAL(38, 4) / sum(sum(events)) OVER (), 2) AS percent_of_all_events,
    min(day) FILTER (WHERE unpriced_events > 0) AS first_day,
    max(day) FILTER (WHERE unpriced_events > 0) AS last_day
FROM daily_usage
GROUP BY provider, model
QUALIFY sum(unpriced_events) > 0
ORDER BY unpriced_events DESC, provider, model;
