-- Replaces the settled records of the families in `settled_now` where they differ from before.
-- Parameters: $source, $zone (reporting zone), $machine.

CREATE OR REPLACE TEMP TABLE settled_reasons AS
SELECT md5($source || ':' || identity)::UUID AS event_id, reason FROM settled_now WHERE identity IS NOT NULL;

CREATE OR REPLACE TEMP TABLE settled_after AS
SELECT
    md5($source || ':' || identity)::UUID AS event_id,
    CAST(timezone($zone, make_timestamptz(occurred_at * 1000)) AS DATE) AS day,
    make_timestamptz(occurred_at * 1000) AS occurred_at,
    $source AS source, md5_number_lower(family) AS family_key,
    coalesce(account, '') AS account, coalesce(session_id, '') AS session_id, coalesce(project, '') AS project,
    coalesce(git_branch, '') AS git_branch, coalesce(is_subagent, false) AS is_subagent,
    coalesce(provider_raw, '') AS provider_raw, coalesce(model_raw, '') AS model_raw,
    coalesce(service_tier, 'standard') AS service_tier,
    coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens,
    coalesce(cache_read_tokens, 0) AS cache_read_tokens,
    coalesce(cache_write_5m_tokens, 0) AS cache_write_5m_tokens,
    coalesce(cache_write_1h_tokens, 0) AS cache_write_1h_tokens,
    coalesce(reasoning_tokens, 0) AS reasoning_tokens, coalesce(web_search_requests, 0) AS web_search_requests,
    reported_cost_usd, coalesce(time_quality, 'exact') AS time_quality, coalesce(model_quality, 'exact') AS model_quality
FROM settled_now WHERE identity IS NOT NULL;

CREATE OR REPLACE TEMP TABLE settled_before AS
FROM raw.settled_records
WHERE source = $source AND family_key IN (SELECT DISTINCT md5_number_lower(family) FROM settled_now);

CREATE OR REPLACE TEMP TABLE settled_fresh AS
FROM settled_after ANTI JOIN settled_before USING (event_id)
UNION ALL (
    FROM settled_after SEMI JOIN settled_before USING (event_id)
    EXCEPT SELECT * EXCLUDE (machine, recorded_at) FROM settled_before
);

CREATE OR REPLACE TEMP TABLE settled_stale AS
SELECT event_id, day FROM settled_before
WHERE event_id IN (SELECT event_id FROM settled_fresh) OR event_id NOT IN (SELECT event_id FROM settled_after);

CREATE OR REPLACE TEMP TABLE stale_rows AS
SELECT event_id, to_json(known) AS row FROM (
    SELECT * REPLACE (reported_cost_usd::VARCHAR AS reported_cost_usd) FROM raw.normalized_records
    WHERE day BETWEEN (SELECT min(day) FROM settled_stale) AND (SELECT max(day) FROM settled_stale)
      AND event_id IN (SELECT event_id FROM settled_stale)
) AS known;

DELETE FROM raw.settled_records
WHERE day BETWEEN (SELECT min(day) FROM settled_stale) AND (SELECT max(day) FROM settled_stale)
  AND event_id IN (SELECT event_id FROM settled_stale);

INSERT INTO raw.settled_records BY NAME
SELECT fresh.*, coalesce(known.machine, $machine) AS machine, coalesce(known.recorded_at, now()) AS recorded_at
FROM settled_fresh AS fresh LEFT JOIN settled_before AS known USING (event_id)
ORDER BY fresh.day, fresh.occurred_at, fresh.event_id;
