-- What pricing writes. `pricing_snapshots` and `pricing_rates` are append-only: a row that was used is never changed.

CREATE TABLE core.prices (
    price_id UUID NOT NULL, pricing_status VARCHAR NOT NULL, price_provider VARCHAR, price_model VARCHAR, snapshot_day DATE,
    snapshot_revision INTEGER, price_variant VARCHAR, price_tier BIGINT, price_basis VARCHAR
);
COMMENT ON TABLE core.prices IS 'By what events are priced: the evidence that many costs have in common. `price_id` is a digest of the rest.';
INSERT INTO core.prices (price_id, pricing_status, price_basis) VALUES
    (md5('reported')::UUID, 'exact', 'reported'), (md5('unpriced')::UUID, 'unpriced', NULL),
    (md5('reported sum')::UUID, 'estimated', 'reported');

CREATE TABLE core.priced_events (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, context_id BIGINT NOT NULL,
    machine VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL, reported_cost_usd DECIMAL(38, 12),
    recorded_at TIMESTAMPTZ NOT NULL, cost_usd DECIMAL(38, 12), price_id UUID NOT NULL, responses BIGINT NOT NULL,
    reported_total_tokens BIGINT
);
COMMENT ON TABLE core.priced_events IS 'Usage events with what they cost, in day order: the view priced_events without its texts.';

CREATE TABLE pricing_snapshots (
    price_provider VARCHAR NOT NULL, price_model VARCHAR NOT NULL, snapshot_day DATE NOT NULL, revision INTEGER NOT NULL,
    basis VARCHAR NOT NULL CHECK (basis IN ('exact_day', 'carried', 'correction', 'override', 'free')),
    carried_from DATE, source VARCHAR NOT NULL, source_version VARCHAR NOT NULL, source_model_id VARCHAR NOT NULL,
    source_effective_from DATE, source_sha256 VARCHAR NOT NULL, rates_sha256 VARCHAR NOT NULL,
    captured_at TIMESTAMPTZ NOT NULL, reprice_id INTEGER,
    PRIMARY KEY (price_provider, price_model, snapshot_day, revision)
);
COMMENT ON TABLE pricing_snapshots IS 'The price of a model on a UTC day, written when it was first used and never changed. Only an audited reprice appends a revision; the highest counts.';
COMMENT ON COLUMN pricing_snapshots.price_provider IS 'Whose price list: the vendor, or a route with a list of its own.';
COMMENT ON COLUMN pricing_snapshots.price_model IS 'The id in that list.';
COMMENT ON COLUMN pricing_snapshots.snapshot_day IS 'UTC day for which the rates hold.';
COMMENT ON COLUMN pricing_snapshots.revision IS '1 for the first capture; one more for each reprice and each undo.';
COMMENT ON COLUMN pricing_snapshots.basis IS 'Where the standard rates come from: exact_day, carried, correction, override or free.';
COMMENT ON COLUMN pricing_snapshots.carried_from IS 'Day of the snapshot whose rates were carried on; NULL for others.';
COMMENT ON COLUMN pricing_snapshots.source IS 'genai-prices, corrections (shipped) or overrides (the user''s own file).';
COMMENT ON COLUMN pricing_snapshots.source_version IS 'Version of the catalogue; empty for files, which have a digest only.';
COMMENT ON COLUMN pricing_snapshots.source_model_id IS 'The model''s id inside the source.';
COMMENT ON COLUMN pricing_snapshots.source_effective_from IS 'First day of these rates, where the source dates them.';
COMMENT ON COLUMN pricing_snapshots.source_sha256 IS 'SHA-256 of the file, or of the catalogue''s data.';
COMMENT ON COLUMN pricing_snapshots.rates_sha256 IS 'SHA-256 of the rates in their canonical spelling: the key of pricing_rates. Days of equal price share it.';
COMMENT ON COLUMN pricing_snapshots.captured_at IS 'When the snapshot was written.';
COMMENT ON COLUMN pricing_snapshots.reprice_id IS 'The reprice that wrote this revision; NULL for a first capture.';

CREATE TABLE pricing_rates (
    rates_sha256 VARCHAR NOT NULL, variant VARCHAR NOT NULL, prompt_over BIGINT NOT NULL, prompt_up_to BIGINT,
    from_minute INTEGER NOT NULL, until_minute INTEGER NOT NULL, input_per_mtok DECIMAL(18, 6) NOT NULL,
    output_per_mtok DECIMAL(18, 6) NOT NULL, cache_read_per_mtok DECIMAL(18, 6), cache_write_5m_per_mtok DECIMAL(18, 6),
    cache_write_1h_per_mtok DECIMAL(18, 6), web_search_per_k DECIMAL(18, 6), basis VARCHAR NOT NULL,
    source VARCHAR NOT NULL, PRIMARY KEY (rates_sha256, variant, prompt_over, from_minute)
);
COMMENT ON TABLE pricing_rates IS 'The rates behind the snapshots, in USD per million tokens. Exactly one row holds for a variant, a prompt length and a minute of the UTC day.';
COMMENT ON COLUMN pricing_rates.rates_sha256 IS 'SHA-256 of all rows that belong together.';
COMMENT ON COLUMN pricing_rates.variant IS 'standard, batch, flex, priority or fast.';
COMMENT ON COLUMN pricing_rates.prompt_over IS 'The row holds for requests with a prompt of more than this many tokens, cache reads and writes included; -1 for the base.';
COMMENT ON COLUMN pricing_rates.prompt_up_to IS 'The longest prompt it holds for; NULL without a limit.';
COMMENT ON COLUMN pricing_rates.from_minute IS 'First minute of the UTC day at which it holds; 0 for the whole day.';
COMMENT ON COLUMN pricing_rates.until_minute IS 'First minute at which it no longer holds; 1440 for the whole day.';
COMMENT ON COLUMN pricing_rates.input_per_mtok IS 'Uncached prompt tokens.';
COMMENT ON COLUMN pricing_rates.output_per_mtok IS 'Completion tokens, reasoning included.';
COMMENT ON COLUMN pricing_rates.cache_read_per_mtok IS 'Tokens read from a cache; NULL: as input.';
COMMENT ON COLUMN pricing_rates.cache_write_5m_per_mtok IS 'Tokens written to a cache for five minutes; NULL: as input.';
COMMENT ON COLUMN pricing_rates.cache_write_1h_per_mtok IS 'Tokens written to a cache for one hour; NULL: as for five minutes.';
COMMENT ON COLUMN pricing_rates.web_search_per_k IS 'USD per thousand searches; NULL when not known, which leaves an event with searches unpriced.';
COMMENT ON COLUMN pricing_rates.basis IS 'Where this row comes from: exact_day, correction, override or free.';
COMMENT ON COLUMN pricing_rates.source IS 'The catalogue''s name, or the source a correction or override cites.';

CREATE TABLE reprice_log (
    reprice_id INTEGER PRIMARY KEY, repriced_at TIMESTAMPTZ NOT NULL, repriced_by VARCHAR NOT NULL,
    price_provider VARCHAR NOT NULL, price_model VARCHAR NOT NULL, from_day DATE NOT NULL, to_day DATE NOT NULL,
    reason VARCHAR NOT NULL, price_sources_sha256 VARCHAR NOT NULL, snapshots BIGINT NOT NULL, events BIGINT NOT NULL,
    old_total_usd DECIMAL(38, 12), new_total_usd DECIMAL(38, 12), undoes INTEGER
);
COMMENT ON TABLE reprice_log IS 'Every reprice and every undo of one: the only way in which frozen rates change.';
COMMENT ON COLUMN reprice_log.reprice_id IS 'Ascending number.';
COMMENT ON COLUMN reprice_log.repriced_at IS 'When it was applied.';
COMMENT ON COLUMN reprice_log.repriced_by IS 'Who applied it, as given on the command line; else empty.';
COMMENT ON COLUMN reprice_log.price_provider IS 'Whose price list.';
COMMENT ON COLUMN reprice_log.price_model IS 'The id in that list.';
COMMENT ON COLUMN reprice_log.from_day IS 'First UTC day.';
COMMENT ON COLUMN reprice_log.to_day IS 'First UTC day no longer covered.';
COMMENT ON COLUMN reprice_log.reason IS 'Why, as given on the command line.';
COMMENT ON COLUMN reprice_log.price_sources_sha256 IS 'Digest of the catalogue, the corrections and the user''s prices at that time; empty for an undo.';
COMMENT ON COLUMN reprice_log.snapshots IS 'Snapshots that got a new revision.';
COMMENT ON COLUMN reprice_log.events IS 'Priced events on their days.';
COMMENT ON COLUMN reprice_log.old_total_usd IS 'What these events cost before; NULL when none had a price.';
COMMENT ON COLUMN reprice_log.new_total_usd IS 'What they cost after.';
COMMENT ON COLUMN reprice_log.undoes IS 'The reprice that this one takes back; NULL for others.';

CREATE TABLE operations.price_names (
    source VARCHAR NOT NULL, provider VARCHAR NOT NULL, model VARCHAR NOT NULL, route VARCHAR NOT NULL,
    model_raw VARCHAR NOT NULL, snapshot_day DATE NOT NULL, price_provider VARCHAR NOT NULL, price_model VARCHAR NOT NULL,
    match_rule VARCHAR NOT NULL, is_vendor_equivalent BOOLEAN NOT NULL, is_tier_in_name BOOLEAN NOT NULL,
    PRIMARY KEY (source, provider, model, route, model_raw, snapshot_day)
);
COMMENT ON TABLE operations.price_names IS 'Which snapshot prices a name on a UTC day. Written with the first capture and as frozen as the rates.';

CREATE TABLE operations.unpriced_names (
    source VARCHAR NOT NULL, provider VARCHAR NOT NULL, model VARCHAR NOT NULL, route VARCHAR NOT NULL,
    model_raw VARCHAR NOT NULL, snapshot_day DATE NOT NULL, reason VARCHAR NOT NULL, price_sources_sha256 VARCHAR NOT NULL
);
COMMENT ON TABLE operations.unpriced_names IS 'Names without a price on a UTC day, and why: not tried again before the digest of the price sources changes.';
