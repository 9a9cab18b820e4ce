-- Logs what became of the events that were known before: one row per event that changed or was withdrawn.
INSERT INTO event_changes (event_id, changed_at, subject, reason, before, after)
SELECT
    event_id, now(), 'event',
    CASE WHEN became.row IS NULL THEN 'found to be a copy of another response' ELSE became.reason END,
    was.row, became.row
FROM stale_rows AS was
LEFT JOIN (
    SELECT event_id, to_json(known) AS row, reason FROM (
        SELECT * REPLACE (reported_cost_usd::VARCHAR AS reported_cost_usd) FROM raw.normalized_records
        WHERE day BETWEEN (SELECT min(day) FROM settled_fresh) AND (SELECT max(day) FROM settled_fresh)
          AND event_id IN (SELECT event_id FROM stale_rows)
    ) AS known
    JOIN (SELECT event_id, reason FROM settled_reasons) USING (event_id)
) AS became USING (event_id)
ORDER BY event_id;
