-- The rates that may be used on the days asked for: the highest revision of each snapshot, per token, spread over the
-- names and service tiers they serve. {snapshots} and {rates} are the stored tables, or what a reprice would make of them.
CREATE OR REPLACE TEMP TABLE chosen_rates AS
WITH latest AS (
    SELECT * FROM {snapshots}
    WHERE snapshot_day BETWEEN CAST($first_day AS DATE) - 2 AND CAST($last_day AS DATE) + 2
    QUALIFY row_number() OVER (PARTITION BY price_provider, price_model, snapshot_day ORDER BY revision DESC) = 1
),
per_token AS (
    SELECT *,
        CAST(input_per_mtok * CAST('0.000001' AS DECIMAL(7, 6)) AS DECIMAL(18, 12)) AS input_rate,
        CAST(output_per_mtok * CAST('0.000001' AS DECIMAL(7, 6)) AS DECIMAL(18, 12)) AS output_rate,
        CAST(coalesce(cache_read_per_mtok, input_per_mtok)
            * CAST('0.000001' AS DECIMAL(7, 6)) AS DECIMAL(18, 12)) AS cache_read_rate,
        CAST(coalesce(cache_write_5m_per_mtok, input_per_mtok)
            * CAST('0.000001' AS DECIMAL(7, 6)) AS DECIMAL(18, 12)) AS cache_write_5m_rate,
        CAST(coalesce(cache_write_1h_per_mtok, cache_write_5m_per_mtok, input_per_mtok)
            * CAST('0.000001' AS DECIMAL(7, 6)) AS DECIMAL(18, 12)) AS cache_write_1h_rate,
        CAST(web_search_per_k * CAST('0.001' AS DECIMAL(4, 3)) AS DECIMAL(18, 12)) AS web_search_rate
    FROM {rates}
)
SELECT *, md5(concat_ws(
        chr(31), pricing_status, price_provider, price_model, snapshot_day, snapshot_revision, price_variant, price_tier,
        price_basis
    ))::UUID AS price_id
FROM (
    SELECT
        names.source AS used_source, names.provider AS used_provider, names.model AS used_model,
        names.route AS used_route, names.model_raw AS used_model_raw, names.snapshot_day, names.price_provider,
        names.price_model, latest.revision AS snapshot_revision, tiers.service_tier, rates.variant AS price_variant,
        rates.prompt_over AS price_tier, rates.prompt_over,
        coalesce(rates.prompt_up_to, 9223372036854775807) AS prompt_up_to, rates.from_minute, rates.until_minute,
        CASE WHEN rates.basis <> 'exact_day' THEN rates.basis
            WHEN names.is_vendor_equivalent THEN 'vendor_equivalent'
            ELSE latest.basis
        END AS price_basis,
        CASE WHEN rates.basis = 'free' THEN 'exact' ELSE 'estimated' END AS pricing_status,
        input_rate, output_rate, cache_read_rate, cache_write_5m_rate, cache_write_1h_rate, web_search_rate
    FROM operations.price_names AS names
    JOIN latest USING (price_provider, price_model, snapshot_day)
    JOIN per_token AS rates USING (rates_sha256)
    JOIN (VALUES ('standard'), ('batch'), ('flex'), ('priority'), ('fast')) AS tiers (service_tier)
        -- A free model is free in every tier, and an id that names its tier has one price: that of the tier.
        ON rates.variant
            = CASE WHEN names.is_tier_in_name OR rates.basis = 'free' THEN 'standard' ELSE tiers.service_tier END
)
