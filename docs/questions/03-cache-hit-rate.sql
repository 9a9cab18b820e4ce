-- How much of each model's prompts came from the cache?
-- The prompt is the uncached input, what was read from a cache, and what was written to one.
SELECT
    provider,
    model,
    sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS prompt_tokens,
    round(100 * sum(cache_read_tokens)::DECIMAL(38, 4)
        / nullif(sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens), 0), 1)
        AS percent_from_cache
FROM daily_usage
GROUP BY provider, model
ORDER BY prompt_tokens DESC, provider, model;
