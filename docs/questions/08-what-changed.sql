-- What changed in events that were already known, and why?
-- One row per day of the change and reason. `events_as_of(instant)` shows the whole table as it was.
SELECT
    changed_at::DATE AS changed_on,
    subject,
    reason,
    count(*) AS changes,
    count(DISTINCT event_id) AS events,
    count(*) FILTER (WHERE after IS NULL) AS withdrawn,
    sum(coalesce((after ->> 'output_tokens')::BIGINT, 0) - coalesce((before ->> 'output_tokens')::BIGINT, 0))
        FILTER (WHERE subject = 'event') AS output_tokens_added
FROM event_changes
GROUP BY ALL
ORDER BY changed_on DESC, subject, reason;
