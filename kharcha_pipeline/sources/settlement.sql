-- Replaces the usage events of the families in `families_now` by `settled_now` where they differ, and leaves in `settled_now`
-- what is new and in `settled_stale` what was replaced.

CREATE OR REPLACE TEMP TABLE settled_before AS
FROM core.usage_events WHERE family_key IN (SELECT family_key FROM families_now);

CREATE OR REPLACE TEMP TABLE settled_stale AS
SELECT event_id, day, machine, recorded_at FROM settled_before AS before WHERE NOT EXISTS (
    FROM settled_now AS now
    WHERE now.event_id = before.event_id AND now.day = before.day AND now.occurred_at = before.occurred_at
        AND now.family_key = before.family_key AND now.context_id = before.context_id
        AND now.input_tokens = before.input_tokens AND now.output_tokens = before.output_tokens
        AND now.cache_read_tokens = before.cache_read_tokens
        AND now.cache_write_5m_tokens = before.cache_write_5m_tokens
        AND now.cache_write_1h_tokens = before.cache_write_1h_tokens
        AND now.reasoning_tokens = before.reasoning_tokens AND now.web_search_requests = before.web_search_requests
        AND now.reported_cost_usd IS NOT DISTINCT FROM before.reported_cost_usd AND now.responses = before.responses
        AND now.reported_total_tokens IS NOT DISTINCT FROM before.reported_total_tokens
);

DELETE FROM settled_now WHERE event_id IN (
    SELECT event_id FROM settled_before WHERE event_id NOT IN (SELECT event_id FROM settled_stale)
);

CREATE OR REPLACE TEMP TABLE stale_rows AS
SELECT event_id, to_json(known) AS row FROM (
    SELECT * REPLACE (reported_cost_usd::VARCHAR AS reported_cost_usd) FROM usage_events
    WHERE day BETWEEN (SELECT min(day) FROM settled_stale) AND (SELECT max(day) FROM settled_stale)
      AND event_id IN (SELECT event_id FROM settled_stale)
) AS known;

DELETE FROM core.usage_events
WHERE day BETWEEN (SELECT min(day) FROM settled_stale) AND (SELECT max(day) FROM settled_stale)
  AND event_id IN (SELECT event_id FROM settled_stale);

INSERT INTO core.usage_events BY NAME
SELECT now.* REPLACE (coalesce(known.machine, now.machine) AS machine), coalesce(known.recorded_at, now()) AS recorded_at
FROM settled_now AS now LEFT JOIN settled_stale AS known USING (event_id)
ORDER BY now.day, now.occurred_at, now.event_id;

-- Logs what became of the events that were known before: one row per event that changed or was withdrawn.
INSERT INTO event_changes (event_id, changed_at, subject, reason, before, after)
SELECT
    event_id, now(), 'event',
    CASE WHEN became.row IS NOT NULL THEN became.reason ELSE (SELECT any_value(withdrawn) FROM families_now) END,
    was.row, became.row
FROM stale_rows AS was
LEFT JOIN (
    SELECT event_id, to_json(known) AS row, reason FROM (
        SELECT * REPLACE (reported_cost_usd::VARCHAR AS reported_cost_usd) FROM usage_events
        WHERE day BETWEEN (SELECT min(day) FROM settled_now) AND (SELECT max(day) FROM settled_now)
          AND event_id IN (SELECT event_id FROM stale_rows)
    ) AS known
    JOIN (SELECT event_id, reason FROM settled_now JOIN families_now USING (family_key)) USING (event_id)
) AS became USING (event_id)
ORDER BY event_id;
