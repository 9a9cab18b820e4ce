-- Priced events as people see them, with the texts of their context and of their price spelled out.
CREATE OR REPLACE VIEW priced_events AS
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
    recorded_at, cost_usd, pricing_status, price_provider, price_model, snapshot_day, snapshot_revision, price_variant,
    price_tier, price_basis,
    responses, reported_total_tokens,
    reported_total_tokens IS NOT NULL AND reported_total_tokens <> events.input_tokens + events.output_tokens
        + events.cache_read_tokens + events.cache_write_5m_tokens + events.cache_write_1h_tokens AS total_mismatch
FROM core.priced_events AS events JOIN core.contexts USING (context_id) JOIN core.prices USING (price_id);
COMMENT ON VIEW priced_events IS 'Usage events with what they cost on the day they were used, and the evidence for it. An unknown price is NULL, never 0.';
COMMENT ON COLUMN priced_events.event_id IS 'Identity of the response: the same wherever and however often it was logged.';
COMMENT ON COLUMN priced_events.day IS 'Local day of occurred_at in the reporting zone.';
COMMENT ON COLUMN priced_events.occurred_at IS 'Instant of the response.';
COMMENT ON COLUMN priced_events.source IS 'The agent whose log said so, or the vendor''s product whose account shows it.';
COMMENT ON COLUMN priced_events.account IS 'Label given to the log root in the settings, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN priced_events.machine IS 'Label of the machine; empty for what belongs to a whole account.';
COMMENT ON COLUMN priced_events.session_id IS 'Session as logged, else the name of its file; the conversation, where a vendor names it.';
COMMENT ON COLUMN priced_events.project IS 'Working directory as logged, else empty.';
COMMENT ON COLUMN priced_events.git_branch IS 'Git branch as logged, else empty.';
COMMENT ON COLUMN priced_events.is_subagent IS 'Whether a subagent made the request.';
COMMENT ON COLUMN priced_events.provider IS 'Vendor of the model.';
COMMENT ON COLUMN priced_events.model IS 'Model, from the raw name by syntax alone.';
COMMENT ON COLUMN priced_events.provider_raw IS 'Provider as logged.';
COMMENT ON COLUMN priced_events.model_raw IS 'Model as logged.';
COMMENT ON COLUMN priced_events.route IS 'How the model was bought when not from its vendor, else empty.';
COMMENT ON COLUMN priced_events.endpoint IS 'API endpoint; empty for agent logs.';
COMMENT ON COLUMN priced_events.service_tier IS 'standard, batch, flex, priority or fast.';
COMMENT ON COLUMN priced_events.status IS 'ok, error or aborted; agent logs hold only ok.';
COMMENT ON COLUMN priced_events.input_tokens IS 'Prompt tokens at the full rate: neither read from nor written to a cache; NULL when the vendor tells none.';
COMMENT ON COLUMN priced_events.output_tokens IS 'All completion tokens, reasoning included; NULL when the vendor tells none.';
COMMENT ON COLUMN priced_events.cache_read_tokens IS 'Prompt tokens served from a cache; NULL when the vendor tells none.';
COMMENT ON COLUMN priced_events.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time; NULL when the vendor tells none.';
COMMENT ON COLUMN priced_events.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour; NULL when the vendor tells none.';
COMMENT ON COLUMN priced_events.reasoning_tokens IS 'Reasoning tokens, for information: they are part of output_tokens; NULL when the vendor tells none.';
COMMENT ON COLUMN priced_events.web_search_requests IS 'Searches done by the vendor, billed per thousand.';
COMMENT ON COLUMN priced_events.premium_request_count IS 'Requests of plans that count them, as recorded or as the vendor counts them; 0 for agent logs.';
COMMENT ON COLUMN priced_events.reported_cost_usd IS 'Cost in USD as the agent wrote it or the vendor charged it, untouched; NULL when none was told.';
COMMENT ON COLUMN priced_events.time_quality IS 'exact, neighbour or mtime: how the instant is known.';
COMMENT ON COLUMN priced_events.model_quality IS 'exact, configured, fallback or none: how the model is known.';
COMMENT ON COLUMN priced_events.evidence IS 'message: one response seen by itself. vendor: one request as its vendor shows it. charge: the same, of which the vendor tells no token counts. aggregate: a sum somebody else made; never in a context tier above the base.';
COMMENT ON COLUMN priced_events.recorded_at IS 'When this warehouse first knew the response.';
COMMENT ON COLUMN priced_events.cost_usd IS 'What the response costs in USD at list price: the reported cost when positive (of a sum, or from the vendor, also when 0), else tokens times rates; NULL when unknown.';
COMMENT ON COLUMN priced_events.pricing_status IS 'exact (reported, free by the user''s own statement, or nothing was used), estimated (tokens times rates, or reported with a sum) or unpriced.';
COMMENT ON COLUMN priced_events.price_provider IS 'Whose price list was used; NULL when none was.';
COMMENT ON COLUMN priced_events.price_model IS 'The id in that list; NULL when none was used.';
COMMENT ON COLUMN priced_events.snapshot_day IS 'UTC day whose rates were used: the UTC day of occurred_at; NULL when none were.';
COMMENT ON COLUMN priced_events.snapshot_revision IS 'Revision of the snapshot; above 1 after a reprice.';
COMMENT ON COLUMN priced_events.price_variant IS 'Variant of the rates: standard, batch, flex, priority or fast.';
COMMENT ON COLUMN priced_events.price_tier IS 'Context tier of the rates: they hold for prompts of more than this many tokens; -1 for the base.';
COMMENT ON COLUMN priced_events.price_basis IS 'reported, exact_day (the catalogue''s price of that day), carried (of an earlier day; the catalogue has forgotten the model), vendor_equivalent (the vendor''s list price for a model bought elsewhere), correction, override, free, unused (the call failed before anything was used); NULL when unpriced.';
COMMENT ON COLUMN priced_events.responses IS 'How many billed responses the row stands for: 1, but for a sum that somebody else made.';
COMMENT ON COLUMN priced_events.reported_total_tokens IS 'Total that the sender of a sum gave; NULL for a single response.';
COMMENT ON COLUMN priced_events.total_mismatch IS 'Whether reported_total_tokens is not the sum of the five counts.';

COMMENT ON COLUMN core.prices.price_id IS 'Digest of the other columns.';
COMMENT ON COLUMN core.prices.pricing_status IS 'exact (reported, free by the user''s own statement, or nothing was used), estimated (tokens times rates, or reported with a sum) or unpriced.';
COMMENT ON COLUMN core.prices.price_provider IS 'Whose price list was used; NULL when none was.';
COMMENT ON COLUMN core.prices.price_model IS 'The id in that list; NULL when none was used.';
COMMENT ON COLUMN core.prices.snapshot_day IS 'UTC day whose rates were used: the UTC day of occurred_at; NULL when none were.';
COMMENT ON COLUMN core.prices.snapshot_revision IS 'Revision of the snapshot; above 1 after a reprice.';
COMMENT ON COLUMN core.prices.price_variant IS 'Variant of the rates: standard, batch, flex, priority or fast.';
COMMENT ON COLUMN core.prices.price_tier IS 'Context tier of the rates: they hold for prompts of more than this many tokens; -1 for the base.';
COMMENT ON COLUMN core.prices.price_basis IS 'reported, exact_day (the catalogue''s price of that day), carried (of an earlier day; the catalogue has forgotten the model), vendor_equivalent (the vendor''s list price for a model bought elsewhere), correction, override, free, unused (the call failed before anything was used); NULL when unpriced.';

COMMENT ON COLUMN core.priced_events.event_id IS 'Identity of the response: the same wherever and however often it was logged.';
COMMENT ON COLUMN core.priced_events.day IS 'Local day of occurred_at in the reporting zone.';
COMMENT ON COLUMN core.priced_events.occurred_at IS 'Instant of the response.';
COMMENT ON COLUMN core.priced_events.context_id IS 'Its row in core.contexts.';
COMMENT ON COLUMN core.priced_events.machine IS 'Label of the machine; empty for what belongs to a whole account.';
COMMENT ON COLUMN core.priced_events.input_tokens IS 'Prompt tokens at the full rate: neither read from nor written to a cache.';
COMMENT ON COLUMN core.priced_events.output_tokens IS 'All completion tokens, reasoning included.';
COMMENT ON COLUMN core.priced_events.cache_read_tokens IS 'Prompt tokens served from a cache.';
COMMENT ON COLUMN core.priced_events.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time.';
COMMENT ON COLUMN core.priced_events.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour.';
COMMENT ON COLUMN core.priced_events.reasoning_tokens IS 'Reasoning tokens, for information: they are part of output_tokens.';
COMMENT ON COLUMN core.priced_events.web_search_requests IS 'Searches done by the vendor, billed per thousand.';
COMMENT ON COLUMN core.priced_events.reported_cost_usd IS 'Cost in USD as the agent wrote it or the vendor charged it, untouched; NULL when none was told.';
COMMENT ON COLUMN core.priced_events.recorded_at IS 'When this warehouse first knew the response.';
COMMENT ON COLUMN core.priced_events.cost_usd IS 'What the response costs in USD at list price: the reported cost when positive (of a sum, or from the vendor, also when 0), else tokens times rates; NULL when unknown.';
COMMENT ON COLUMN core.priced_events.price_id IS 'Its row in core.prices.';
COMMENT ON COLUMN core.priced_events.responses IS 'How many billed responses the row stands for: 1, but for a sum that somebody else made.';
COMMENT ON COLUMN core.priced_events.reported_total_tokens IS 'Total that the sender of a sum gave; NULL for a single response.';
