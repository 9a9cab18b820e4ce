-- What pricing writes. `pricing_snapshots` and `pricing_rates` are append-only: a row that was used is never changed.

CREATE TABLE priced_events (
    event_id UUID NOT NULL, day DATE NOT NULL, occurred_at TIMESTAMPTZ NOT NULL, source VARCHAR NOT NULL,
    account VARCHAR NOT NULL, machine VARCHAR NOT NULL, session_id VARCHAR NOT NULL, project VARCHAR NOT NULL,
    git_branch VARCHAR NOT NULL, is_subagent BOOLEAN NOT NULL, provider VARCHAR NOT NULL, model VARCHAR NOT NULL,
    provider_raw VARCHAR NOT NULL, model_raw VARCHAR NOT NULL, route VARCHAR NOT NULL, endpoint VARCHAR NOT NULL,
    service_tier VARCHAR NOT NULL, status VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL, cache_write_5m_tokens BIGINT NOT NULL, cache_write_1h_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL, web_search_requests BIGINT NOT NULL, premium_request_count DECIMAL(18, 4) NOT NULL,
    reported_cost_usd DECIMAL(38, 12), time_quality VARCHAR NOT NULL, model_quality VARCHAR NOT NULL,
    evidence VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL,
    cost_usd DECIMAL(38, 12), pricing_status VARCHAR NOT NULL, price_provider VARCHAR, price_model VARCHAR,
    snapshot_day DATE, snapshot_revision INTEGER, price_variant VARCHAR, price_tier BIGINT, price_basis VARCHAR
);
COMMENT ON TABLE priced_events IS 'Usage events with what they cost on the day they were used, and the evidence for it. An unknown price is NULL, never 0.';
COMMENT ON COLUMN priced_events.event_id IS 'Identity of the response: the same wherever and however often it was logged.';
COMMENT ON COLUMN priced_events.day IS 'Local day of occurred_at in the reporting zone.';
COMMENT ON COLUMN priced_events.occurred_at IS 'Instant of the response.';
COMMENT ON COLUMN priced_events.source IS 'The agent whose log said so.';
COMMENT ON COLUMN priced_events.account IS 'Label given to the log root in the settings, else empty.';
COMMENT ON COLUMN priced_events.machine IS 'Label of the machine.';
COMMENT ON COLUMN priced_events.session_id IS 'Session as logged, else the name of its file.';
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
COMMENT ON COLUMN priced_events.input_tokens IS 'Prompt tokens at the full rate: neither read from nor written to a cache.';
COMMENT ON COLUMN priced_events.output_tokens IS 'All completion tokens, reasoning included.';
COMMENT ON COLUMN priced_events.cache_read_tokens IS 'Prompt tokens served from a cache.';
COMMENT ON COLUMN priced_events.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time.';
COMMENT ON COLUMN priced_events.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour.';
COMMENT ON COLUMN priced_events.reasoning_tokens IS 'Reasoning tokens, for information: they are part of output_tokens.';
COMMENT ON COLUMN priced_events.web_search_requests IS 'Searches done by the vendor, billed per thousand.';
COMMENT ON COLUMN priced_events.premium_request_count IS 'Premium requests of plans that count them; 0 for agent logs.';
COMMENT ON COLUMN priced_events.reported_cost_usd IS 'Cost in USD as the agent wrote it, untouched; NULL when it wrote none.';
COMMENT ON COLUMN priced_events.time_quality IS 'exact, neighbour or mtime: how the instant is known.';
COMMENT ON COLUMN priced_events.model_quality IS 'exact, configured, fallback or none: how the model is known.';
COMMENT ON COLUMN priced_events.evidence IS 'message: one response seen by itself. aggregate: a sum somebody else made; never in a context tier above the base.';
COMMENT ON COLUMN priced_events.recorded_at IS 'When this warehouse first knew the response.';
COMMENT ON COLUMN priced_events.cost_usd IS 'What the response costs in USD at list price: the reported cost when positive, else tokens times rates; NULL when unknown.';
COMMENT ON COLUMN priced_events.pricing_status IS 'exact (reported, or free by the user''s own statement), estimated (tokens times rates) or unpriced.';
COMMENT ON COLUMN priced_events.price_provider IS 'Whose price list was used; NULL when none was.';
COMMENT ON COLUMN priced_events.price_model IS 'The id in that list; NULL when none was used.';
COMMENT ON COLUMN priced_events.snapshot_day IS 'UTC day whose rates were used: the UTC day of occurred_at; NULL when none were.';
COMMENT ON COLUMN priced_events.snapshot_revision IS 'Revision of the snapshot; above 1 after a reprice.';
COMMENT ON COLUMN priced_events.price_variant IS 'Variant of the rates: standard, batch, flex, priority or fast.';
COMMENT ON COLUMN priced_events.price_tier IS 'Context tier of the rates: they hold for prompts of more than this many tokens; -1 for the base.';
COMMENT ON COLUMN priced_events.price_basis IS 'reported, exact_day (the catalogue''s price of that day), carried (of an earlier day; the catalogue has forgotten the model), vendor_equivalent (the vendor''s list price for a model bought elsewhere), correction, override, free; NULL when unpriced.';

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
