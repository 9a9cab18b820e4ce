-- What did each project cost in the last 30 days?
-- Counted back from the last day with usage. The shares are of what is priced.
WITH recent AS (
    FROM daily_usage WHERE day > (SELECT max(day) FROM daily_usage) - INTERVAL 30 DAY
)
SELECT
    project,
    sum(cost_usd) AS cost_usd,
    round(100 * sum(cost_usd) / sum(sum(cost_usd)) OVER (), 1) AS percent,
    sum(events) AS events,
    sum(unpriced_events) AS unpriced_events
FROM recent
GROUP BY project
ORDER BY cost_usd DESC NULLS LAST, project;
