-- On which days did a project cost far more or less than it usually does?
-- Further from the project's median than three times the median distance from it; only projects with a week of days.
WITH days AS (
    SELECT project, day, sum(cost_usd) AS cost_usd FROM daily_usage GROUP BY project, day HAVING sum(cost_usd) IS NOT NULL
), usual AS (
    SELECT project, median(cost_usd) AS median_usd, mad(cost_usd) AS usual_distance_usd
    FROM days GROUP BY project HAVING count(*) >= 7
)
SELECT project, day, cost_usd, median_usd, usual_distance_usd
FROM days JOIN usual USING (project)
WHERE abs(cost_usd - median_usd) > 3 * usual_distance_usd
ORDER BY abs(cost_usd - median_usd) DESC, project, day;
