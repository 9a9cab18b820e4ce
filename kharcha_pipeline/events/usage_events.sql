-- Usage events as people see them: settled records with their texts spelled out. A view, so that what was settled is stored
-- once; a day's events are always those of its settled records.
CREATE OR REPLACE VIEW usage_events AS
SELECT
    event_id, day, occurred_at, source, account, machine, session_id, project, git_branch, is_subagent, provider, model,
    provider_raw, model_raw, route, endpoint, service_tier, status,
    CASE WHEN evidence <> 'charge' THEN input_tokens END AS input_tokens,
    CASE WHEN evidence <> 'charge' THEN output_tokens END AS output_tokens,
    CASE WHEN evidence <> 'charge' THEN cache_read_tokens END AS cache_read_tokens,
    CASE WHEN evidence <> 'charge' THEN cache_write_5m_tokens END AS cache_write_5m_tokens,
    CASE WHEN evidence <> 'charge' THEN cache_write_1h_tokens END AS cache_write_1h_tokens,
    CASE WHEN evidence <> 'charge' THEN reasoning_tokens END AS reasoning_tokens, web_search_requests,
    premium_request_count, reported_cost_usd, time_quality, model_quality, evidence,
    recorded_at,
    responses, reported_total_tokens,
    reported_total_tokens IS NOT NULL AND reported_total_tokens <> events.input_tokens + events.output_tokens
        + events.cache_read_tokens + events.cache_write_5m_tokens + events.cache_write_1h_tokens AS total_mismatch
FROM core.usage_events AS events JOIN core.contexts USING (context_id);
COMMENT ON VIEW usage_events IS 'One row per billed model response, deduplicated over all files, with disjoint token counts and normalized names.';
COMMENT ON COLUMN usage_events.event_id IS 'Identity of the response: the same wherever and however often it was logged. Holds no day, path or zone.';
COMMENT ON COLUMN usage_events.day IS 'Local day of occurred_at in the reporting zone.';
COMMENT ON COLUMN usage_events.occurred_at IS 'Instant of the response.';
COMMENT ON COLUMN usage_events.source IS 'The agent whose log said so, e.g. claude-code, or the vendor''s product whose account shows it, e.g. cursor.';
COMMENT ON COLUMN usage_events.account IS 'Label given to the log root in the settings, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN usage_events.machine IS 'Label of this machine from the settings, else a random id; never the host name. Empty for what belongs to a whole account.';
COMMENT ON COLUMN usage_events.session_id IS 'Session as logged, else the name of its file; the conversation, where a vendor names it.';
COMMENT ON COLUMN usage_events.project IS 'Working directory as logged, else empty.';
COMMENT ON COLUMN usage_events.git_branch IS 'Git branch as logged, else empty.';
COMMENT ON COLUMN usage_events.is_subagent IS 'Whether a subagent made the request.';
COMMENT ON COLUMN usage_events.provider IS 'Vendor of the model.';
COMMENT ON COLUMN usage_events.model IS 'Model, from the raw name by syntax alone; never depends on a price list.';
COMMENT ON COLUMN usage_events.provider_raw IS 'Provider as logged.';
COMMENT ON COLUMN usage_events.model_raw IS 'Model as logged.';
COMMENT ON COLUMN usage_events.route IS 'How the model was bought when not from its vendor (openrouter, github-copilot, amazon-bedrock), else empty.';
COMMENT ON COLUMN usage_events.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN usage_events.service_tier IS 'standard, batch, flex, priority or fast.';
COMMENT ON COLUMN usage_events.status IS 'ok, error or aborted; agent logs hold only ok.';
COMMENT ON COLUMN usage_events.input_tokens IS 'Prompt tokens at the full rate: neither read from nor written to a cache; NULL when the vendor tells none.';
COMMENT ON COLUMN usage_events.output_tokens IS 'All completion tokens, reasoning included; NULL when the vendor tells none.';
COMMENT ON COLUMN usage_events.cache_read_tokens IS 'Prompt tokens served from a cache; NULL when the vendor tells none.';
COMMENT ON COLUMN usage_events.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time; NULL when the vendor tells none.';
COMMENT ON COLUMN usage_events.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour; NULL when the vendor tells none.';
COMMENT ON COLUMN usage_events.reasoning_tokens IS 'Reasoning tokens, for information: they are part of output_tokens; NULL when the vendor tells none.';
COMMENT ON COLUMN usage_events.web_search_requests IS 'Searches done by the vendor, billed per thousand.';
COMMENT ON COLUMN usage_events.premium_request_count IS 'Requests of plans that count them, as recorded or as the vendor counts them; 0 for agent logs.';
COMMENT ON COLUMN usage_events.reported_cost_usd IS 'Cost in USD as the agent wrote it or the vendor charged it, untouched; NULL when none was told.';
COMMENT ON COLUMN usage_events.time_quality IS 'exact, neighbour (the time of the record beside it) or mtime (the time of the file).';
COMMENT ON COLUMN usage_events.model_quality IS 'exact, configured (from the agent''s settings), fallback or none.';
COMMENT ON COLUMN usage_events.evidence IS 'message: one response seen by itself. vendor: one request as its vendor shows it. charge: the same, of which the vendor tells no token counts. aggregate: a sum somebody else made.';
COMMENT ON COLUMN usage_events.recorded_at IS 'When this warehouse first knew the response.';
COMMENT ON COLUMN usage_events.responses IS 'How many billed responses the row stands for: 1, but for a sum that somebody else made.';
COMMENT ON COLUMN usage_events.reported_total_tokens IS 'Total that the sender of a sum gave; NULL for a single response.';
COMMENT ON COLUMN usage_events.total_mismatch IS 'Whether reported_total_tokens is not the sum of the five counts.';

COMMENT ON COLUMN core.contexts.context_id IS 'Ascending number.';
COMMENT ON COLUMN core.contexts.digest IS 'Digest of the columns that follow: each combination of them has one row.';
COMMENT ON COLUMN core.contexts.source IS 'The agent whose log said so, e.g. claude-code, or the vendor''s product whose account shows it, e.g. cursor.';
COMMENT ON COLUMN core.contexts.account IS 'Label given to the log root in the settings, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN core.contexts.session_id IS 'Session as logged, else the name of its file; the conversation, where a vendor names it.';
COMMENT ON COLUMN core.contexts.project IS 'Working directory as logged, else empty.';
COMMENT ON COLUMN core.contexts.git_branch IS 'Git branch as logged, else empty.';
COMMENT ON COLUMN core.contexts.is_subagent IS 'Whether a subagent made the request.';
COMMENT ON COLUMN core.contexts.provider IS 'Vendor of the model.';
COMMENT ON COLUMN core.contexts.model IS 'Model, from the raw name by syntax alone; never depends on a price list.';
COMMENT ON COLUMN core.contexts.provider_raw IS 'Provider as logged.';
COMMENT ON COLUMN core.contexts.model_raw IS 'Model as logged.';
COMMENT ON COLUMN core.contexts.route IS 'How the model was bought when not from its vendor (openrouter, github-copilot, amazon-bedrock), else empty.';
COMMENT ON COLUMN core.contexts.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN core.contexts.service_tier IS 'standard, batch, flex, priority or fast.';
COMMENT ON COLUMN core.contexts.status IS 'ok, error or aborted; agent logs hold only ok.';
COMMENT ON COLUMN core.contexts.premium_request_count IS 'Requests of plans that count them, as recorded or as the vendor counts them; 0 for agent logs.';
COMMENT ON COLUMN core.contexts.time_quality IS 'exact, neighbour (the time of the record beside it) or mtime (the time of the file).';
COMMENT ON COLUMN core.contexts.model_quality IS 'exact, configured (from the agent''s settings), fallback or none.';
COMMENT ON COLUMN core.contexts.evidence IS 'message: one response seen by itself. vendor: one request as its vendor shows it. charge: the same, of which the vendor tells no token counts. aggregate: a sum somebody else made.';

COMMENT ON COLUMN core.usage_events.event_id IS 'Identity of the response: the same wherever and however often it was logged. Holds no day, path or zone.';
COMMENT ON COLUMN core.usage_events.day IS 'Local day of occurred_at in the reporting zone.';
COMMENT ON COLUMN core.usage_events.occurred_at IS 'Instant of the response.';
COMMENT ON COLUMN core.usage_events.family_key IS 'Hash of the identity group whose records were compared.';
COMMENT ON COLUMN core.usage_events.context_id IS 'Its row in core.contexts.';
COMMENT ON COLUMN core.usage_events.machine IS 'Label of this machine from the settings, else a random id; never the host name. Empty for what belongs to a whole account.';
COMMENT ON COLUMN core.usage_events.input_tokens IS 'Prompt tokens at the full rate: neither read from nor written to a cache.';
COMMENT ON COLUMN core.usage_events.output_tokens IS 'All completion tokens, reasoning included.';
COMMENT ON COLUMN core.usage_events.cache_read_tokens IS 'Prompt tokens served from a cache.';
COMMENT ON COLUMN core.usage_events.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time.';
COMMENT ON COLUMN core.usage_events.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour.';
COMMENT ON COLUMN core.usage_events.reasoning_tokens IS 'Reasoning tokens, for information: they are part of output_tokens.';
COMMENT ON COLUMN core.usage_events.web_search_requests IS 'Searches done by the vendor, billed per thousand.';
COMMENT ON COLUMN core.usage_events.reported_cost_usd IS 'Cost in USD as the agent wrote it or the vendor charged it, untouched; NULL when none was told.';
COMMENT ON COLUMN core.usage_events.recorded_at IS 'When this warehouse first knew the response.';
COMMENT ON COLUMN core.usage_events.responses IS 'How many billed responses the row stands for: 1, but for a sum that somebody else made.';
COMMENT ON COLUMN core.usage_events.reported_total_tokens IS 'Total that the sender of a sum gave; NULL for a single response.';

CREATE OR REPLACE MACRO events_as_of(instant) AS TABLE
WITH first_change_after AS (
    SELECT event_id, arg_min(before, change_id) AS before FROM event_changes
    WHERE subject = 'event' AND changed_at > instant GROUP BY event_id
), restored AS (
    SELECT unnest(json_transform(before, '{
        "event_id": "UUID", "day": "DATE", "occurred_at": "TIMESTAMPTZ", "source": "VARCHAR", "account": "VARCHAR",
        "machine": "VARCHAR", "session_id": "VARCHAR", "project": "VARCHAR", "git_branch": "VARCHAR",
        "is_subagent": "BOOLEAN", "provider": "VARCHAR", "model": "VARCHAR", "provider_raw": "VARCHAR",
        "model_raw": "VARCHAR", "route": "VARCHAR", "endpoint": "VARCHAR", "service_tier": "VARCHAR", "status": "VARCHAR",
        "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cache_read_tokens": "BIGINT",
        "cache_write_5m_tokens": "BIGINT", "cache_write_1h_tokens": "BIGINT", "reasoning_tokens": "BIGINT",
        "web_search_requests": "BIGINT", "premium_request_count": "DECIMAL(18,4)", "reported_cost_usd": "DECIMAL(38,12)",
        "time_quality": "VARCHAR", "model_quality": "VARCHAR", "evidence": "VARCHAR", "recorded_at": "TIMESTAMPTZ",
        "responses": "BIGINT", "reported_total_tokens": "BIGINT", "total_mismatch": "BOOLEAN"
    }')) FROM first_change_after
)
FROM usage_events WHERE recorded_at <= instant AND event_id NOT IN (SELECT event_id FROM first_change_after)
UNION ALL BY NAME
SELECT * REPLACE (coalesce(responses, 1) AS responses, coalesce(total_mismatch, false) AS total_mismatch)
FROM restored WHERE recorded_at <= instant;
