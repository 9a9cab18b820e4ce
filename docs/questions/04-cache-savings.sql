-- What did caching save, after what writing to the cache cost extra?
-- Per event at the very rates that priced it; events with a reported cost or without a price have none and are left out.
SELECT
    events.provider,
    events.model,
    sum(cache_read_tokens * (input_per_mtok - coalesce(cache_read_per_mtok, input_per_mtok))) * 0.000001 AS saved_usd,
    sum(cache_write_5m_tokens * (coalesce(cache_write_5m_per_mtok, input_per_mtok) - input_per_mtok)
        + cache_write_1h_tokens
        * (coalesce(cache_write_1h_per_mtok, cache_write_5m_per_mtok, input_per_mtok) - input_per_mtok)) * 0.000001
        AS extra_for_writing_usd
FROM priced_events AS events
JOIN pricing_snapshots AS snapshots
    ON snapshots.price_provider = events.price_provider AND snapshots.price_model = events.price_model
    AND snapshots.snapshot_day = events.snapshot_day AND snapshots.revision = events.snapshot_revision
JOIN pricing_rates AS rates
    ON rates.rates_sha256 = snapshots.rates_sha256 AND rates.variant = events.price_variant
    AND rates.prompt_over = events.price_tier
    AND epoch_ms(events.occurred_at) // 60000 % 1440 >= rates.from_minute
    AND epoch_ms(events.occurred_at) // 60000 % 1440 < rates.until_minute
GROUP BY events.provider, events.model
ORDER BY saved_usd DESC, events.provider, events.model;
