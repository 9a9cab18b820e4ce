-- At which hours of the day do people work with agents?
-- Hours of the reporting zone, by its clock; an hour that a clock change repeats counts twice.
SELECT
    hour(timezone((SELECT value FROM about WHERE name = 'timezone'), occurred_at)) AS hour_of_day,
    count(*) AS events,
    count(DISTINCT day) AS days,
    sum(cost_usd) AS cost_usd,
    count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_events
FROM priced_events
GROUP BY hour_of_day
ORDER BY hour_of_day;
