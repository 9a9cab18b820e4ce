-- What each usage event costs: one row per event, from `usage_events` and `chosen_rates` alone.
-- A sum that somebody else made is left out where the source's responses on that machine and day were seen one by one; what
-- belongs to no machine belongs to an account, so there it is that account's.
-- A reported cost above 0 stands, and any that a vendor or the maker of a sum told. Without token counts there is no other. A call that failed before anything was used costs nothing. Otherwise all tokens of the request are billed at the rates of its variant, of its
-- whole prompt's context tier and of the minute it was made at; when no such rates are known, the cost is NULL.
-- Rates are decimals of 12 places per token, so no product is rounded and sums agree in any order.
WITH events AS (
    SELECT events.* EXCLUDE (family_key), source, provider, model, route, model_raw,
        coalesce(nullif(service_tier, ''), 'standard') AS asked_tier,
        CAST(DATE '1970-01-01' + CAST(epoch_ms(occurred_at) // 86400000 AS INTEGER) AS DATE) AS utc_day,
        CAST((epoch_ms(occurred_at) // 60000) % 1440 AS INTEGER) AS utc_minute,
        coalesce(reported_cost_usd > 0 OR evidence <> 'message', false) AND reported_cost_usd IS NOT NULL AS is_reported,
        -- A sum of several requests says nothing about the length of any one prompt: base tier.
        CASE WHEN evidence = 'aggregate' THEN 0
            ELSE input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens
        END AS prompt_tokens,
        evidence, CASE WHEN machine = '' THEN account ELSE '' END AS whose,
        status <> 'ok' AND input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens
            + cache_write_1h_tokens + web_search_requests = 0 AS is_unused
    FROM core.usage_events AS events JOIN core.contexts USING (context_id)
    WHERE day BETWEEN $first_day AND $last_day AND day IN (SELECT unnest(CAST($days AS DATE[])))
),
-- Read from the tables once more: from `events`, DuckDB would keep all of it in memory. No response matches, being none.
known_one_by_one AS (
    SELECT DISTINCT 'aggregate' AS evidence, source, machine, day, CASE WHEN machine = '' THEN account ELSE '' END AS whose
    FROM core.usage_events JOIN core.contexts USING (context_id)
    WHERE day BETWEEN $first_day AND $last_day AND day IN (SELECT unnest(CAST($days AS DATE[]))) AND evidence <> 'aggregate'
)
SELECT
    events.* EXCLUDE (
        source, provider, model, route, model_raw, asked_tier, utc_day, utc_minute, is_reported, prompt_tokens, evidence,
        whose, is_unused
    ),
    CASE WHEN is_reported THEN reported_cost_usd
        WHEN is_unused THEN 0::DECIMAL(38, 12)
        ELSE CAST(
            input_tokens * rates.input_rate + output_tokens * rates.output_rate
            + cache_read_tokens * rates.cache_read_rate + cache_write_5m_tokens * rates.cache_write_5m_rate
            + cache_write_1h_tokens * rates.cache_write_1h_rate
            + web_search_requests * coalesce(rates.web_search_rate, CAST(0 AS DECIMAL(18, 12)))
            AS DECIMAL(38, 12))
    END AS cost_usd,
    CASE WHEN is_reported AND evidence = 'aggregate' THEN md5('reported sum')::UUID
        WHEN is_reported THEN md5('reported')::UUID
        WHEN is_unused THEN md5('unused')::UUID
        ELSE coalesce(rates.price_id, md5('unpriced')::UUID)
    END AS price_id
FROM (FROM events ANTI JOIN known_one_by_one USING (evidence, source, machine, day, whose)) AS events
LEFT JOIN chosen_rates AS rates
    ON rates.used_source = events.source
    AND rates.used_provider = events.provider
    AND rates.used_model = events.model
    AND rates.used_route = events.route
    AND rates.used_model_raw = events.model_raw
    AND rates.snapshot_day = events.utc_day
    AND rates.service_tier = events.asked_tier
    AND events.prompt_tokens > rates.prompt_over
    AND events.prompt_tokens <= rates.prompt_up_to
    AND events.utc_minute >= rates.from_minute
    AND events.utc_minute < rates.until_minute
    AND NOT events.is_reported AND NOT events.is_unused AND events.evidence <> 'charge'
    -- Searches without a known price leave the whole event unpriced.
    AND (events.web_search_requests = 0 OR rates.web_search_rate IS NOT NULL)
