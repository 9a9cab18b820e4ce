-- How much of each project's usage do subagents make?
SELECT
    project,
    count(*) AS events,
    count(*) FILTER (WHERE is_subagent) AS subagent_events,
    sum(cost_usd) AS cost_usd,
    sum(cost_usd) FILTER (WHERE is_subagent) AS subagent_cost_usd,
    count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_events
FROM priced_events
GROUP BY project
ORDER BY cost_usd DESC NULLS LAST, project;
