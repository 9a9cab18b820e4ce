-- How does this month compare with last month up to the same day, per agent?
-- "This month" is the month of the last day with usage. A shorter last month is taken whole.
WITH today AS (
    SELECT max(day) AS day, date_trunc('month', max(day))::DATE AS month FROM daily_usage
)
SELECT
    source,
    sum(cost_usd) FILTER (WHERE daily_usage.day >= month) AS this_month_usd,
    sum(cost_usd) FILTER (WHERE daily_usage.day < month) AS last_month_usd,
    coalesce(sum(unpriced_events) FILTER (WHERE daily_usage.day >= month), 0) AS unpriced_this_month,
    coalesce(sum(unpriced_events) FILTER (WHERE daily_usage.day < month), 0) AS unpriced_last_month
FROM daily_usage, today
WHERE daily_usage.day >= month
   OR daily_usage.day BETWEEN month - INTERVAL 1 MONTH AND least(today.day - INTERVAL 1 MONTH, month - INTERVAL 1 DAY)
GROUP BY source
ORDER BY source;
