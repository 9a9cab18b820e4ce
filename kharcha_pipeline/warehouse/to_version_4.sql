-- From schema version 3 to 4: what vendors say of accounts, beside usage.

CREATE TABLE accounts (
    account VARCHAR PRIMARY KEY, connector VARCHAR NOT NULL, vendor VARCHAR NOT NULL, source VARCHAR NOT NULL,
    label VARCHAR NOT NULL, owner VARCHAR NOT NULL, is_counted BOOLEAN NOT NULL, local_sources VARCHAR[] NOT NULL,
    local_account VARCHAR, tolerance_percent INTEGER NOT NULL, is_configured BOOLEAN NOT NULL,
    is_enabled BOOLEAN NOT NULL, state VARCHAR NOT NULL, state_since TIMESTAMPTZ, until TIMESTAMPTZ,
    sentence VARCHAR NOT NULL, credential_expires_at TIMESTAMPTZ, last_attempt_at TIMESTAMPTZ,
    last_success_at TIMESTAMPTZ, next_poll_at TIMESTAMPTZ, events BIGINT NOT NULL
);
COMMENT ON TABLE accounts IS 'Vendor accounts and how each of them is: the status panel. What was ever configured stays.';
COMMENT ON COLUMN accounts.account IS 'Name of the account.';
COMMENT ON COLUMN accounts.connector IS 'The connector that reads it.';
COMMENT ON COLUMN accounts.vendor IS 'The company behind it.';
COMMENT ON COLUMN accounts.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN accounts.label IS 'How people call the account, else empty.';
COMMENT ON COLUMN accounts.owner IS 'Who answers for it, else empty.';
COMMENT ON COLUMN accounts.is_counted IS 'Whether its usage counts in daily_usage; no when agents'' logs show the same calls.';
COMMENT ON COLUMN accounts.local_sources IS 'Sources whose events may be the same calls; provider:NAME stands for every source of a vendor of models.';
COMMENT ON COLUMN accounts.local_account IS 'Account label of those events; NULL for any.';
COMMENT ON COLUMN accounts.tolerance_percent IS 'Difference that a reconciliation takes for explained, in percent.';
COMMENT ON COLUMN accounts.is_configured IS 'Whether the settings still name it.';
COMMENT ON COLUMN accounts.is_enabled IS 'Whether it may be polled.';
COMMENT ON COLUMN accounts.state IS 'active, rate_limited, waiting, degraded, blocked, needs_attention, session_expired or paused.';
COMMENT ON COLUMN accounts.state_since IS 'Since when; NULL when it never was in another.';
COMMENT ON COLUMN accounts.until IS 'When the state ends by itself; NULL when that is not known.';
COMMENT ON COLUMN accounts.sentence IS 'What is the matter, as a sentence; empty when nothing is.';
COMMENT ON COLUMN accounts.credential_expires_at IS 'When the credential expires, if it says so.';
COMMENT ON COLUMN accounts.last_attempt_at IS 'Begin of the last poll.';
COMMENT ON COLUMN accounts.last_success_at IS 'Begin of the last poll that succeeded.';
COMMENT ON COLUMN accounts.next_poll_at IS 'When it is polled next.';
COMMENT ON COLUMN accounts.events IS 'Single requests that the vendor shows of it.';

CREATE TABLE vendor_events (
    item_id UUID NOT NULL, account VARCHAR NOT NULL, connector VARCHAR NOT NULL, source VARCHAR NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL, ordinal BIGINT NOT NULL, model_raw VARCHAR NOT NULL,
    conversation_id VARCHAR NOT NULL, cloud_agent_id VARCHAR NOT NULL, owner_id VARCHAR NOT NULL,
    user_name VARCHAR NOT NULL, kind VARCHAR NOT NULL, input_tokens BIGINT, output_tokens BIGINT,
    cache_read_tokens BIGINT, cache_write_tokens BIGINT, model_cost_usd DECIMAL(38, 12), fee_usd DECIMAL(38, 12),
    charged_usd DECIMAL(38, 12), request_units DECIMAL(38, 12), is_chargeable BOOLEAN, is_headless BOOLEAN,
    is_max_mode BOOLEAN, is_counted BOOLEAN NOT NULL, is_shown BOOLEAN NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE vendor_events IS 'Single requests as vendors show them, whether or not they count: see counted_evidence. What a vendor shows no longer stays, marked.';
COMMENT ON COLUMN vendor_events.item_id IS 'Identity of the item: the same in every version, and in event_changes where it changes.';
COMMENT ON COLUMN vendor_events.account IS 'Name of the account.';
COMMENT ON COLUMN vendor_events.connector IS 'The connector that read it; entered for what was typed in.';
COMMENT ON COLUMN vendor_events.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN vendor_events.occurred_at IS 'Instant of the request.';
COMMENT ON COLUMN vendor_events.ordinal IS 'Tells requests apart that are equal in all that never changes.';
COMMENT ON COLUMN vendor_events.model_raw IS 'Model as the vendor wrote it.';
COMMENT ON COLUMN vendor_events.conversation_id IS 'Conversation, else empty.';
COMMENT ON COLUMN vendor_events.cloud_agent_id IS 'Agent in the vendor''s cloud, else empty.';
COMMENT ON COLUMN vendor_events.owner_id IS 'Immutable id of whose request it was, else empty.';
COMMENT ON COLUMN vendor_events.user_name IS 'Whose request it was, as an address or a name, else empty.';
COMMENT ON COLUMN vendor_events.kind IS 'The vendor''s word for how it was billed.';
COMMENT ON COLUMN vendor_events.input_tokens IS 'Uncached prompt tokens; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.output_tokens IS 'Completion tokens; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.cache_read_tokens IS 'Prompt tokens read from a cache; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.cache_write_tokens IS 'Prompt tokens written to a cache; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.model_cost_usd IS 'Cost of the model, before the vendor''s fee, in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.fee_usd IS 'The vendor''s fee in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.charged_usd IS 'What the vendor counts for it in USD, fee included; NULL while it has not settled.';
COMMENT ON COLUMN vendor_events.request_units IS 'Requests of plans that count them; NULL when the vendor tells none.';
COMMENT ON COLUMN vendor_events.is_chargeable IS 'Whether it is billed beyond the plan, as the vendor says.';
COMMENT ON COLUMN vendor_events.is_headless IS 'Whether no editor was involved, as the vendor says.';
COMMENT ON COLUMN vendor_events.is_max_mode IS 'Whether the long context was on, as the vendor says.';
COMMENT ON COLUMN vendor_events.is_counted IS 'Whether the account''s usage counts in daily_usage.';
COMMENT ON COLUMN vendor_events.is_shown IS 'Whether the vendor still shows it; the values are the last ones shown.';
COMMENT ON COLUMN vendor_events.first_seen_at IS 'When the vendor was first seen to show it.';
COMMENT ON COLUMN vendor_events.seen_at IS 'When these values were first seen.';

CREATE TABLE vendor_reports (
    item_id UUID NOT NULL, account VARCHAR NOT NULL, connector VARCHAR NOT NULL, source VARCHAR NOT NULL,
    report VARCHAR NOT NULL, grouped_by VARCHAR NOT NULL, starts_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL, ordinal BIGINT NOT NULL, dimensions JSON NOT NULL, model_raw VARCHAR NOT NULL,
    user_name VARCHAR NOT NULL, responses BIGINT, input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT,
    cache_write_5m_tokens BIGINT, cache_write_1h_tokens BIGINT, reasoning_tokens BIGINT, web_search_requests BIGINT,
    quantity DECIMAL(38, 12), unit VARCHAR NOT NULL, amount DECIMAL(38, 12), currency VARCHAR NOT NULL,
    is_counted BOOLEAN NOT NULL, is_shown BOOLEAN NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE vendor_reports IS 'Rows of vendors'' reports by buckets of time: what was used, or what it cost. What a vendor shows no longer stays, marked.';
COMMENT ON COLUMN vendor_reports.item_id IS 'Identity of the item: the same in every version, and in event_changes where it changes.';
COMMENT ON COLUMN vendor_reports.account IS 'Name of the account.';
COMMENT ON COLUMN vendor_reports.connector IS 'The connector that read it; entered for what was typed in.';
COMMENT ON COLUMN vendor_reports.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN vendor_reports.report IS 'Which report.';
COMMENT ON COLUMN vendor_reports.grouped_by IS 'What it was grouped by: another grouping is another report.';
COMMENT ON COLUMN vendor_reports.starts_at IS 'Begin of the bucket.';
COMMENT ON COLUMN vendor_reports.ends_at IS 'End of the bucket, which is no part of it.';
COMMENT ON COLUMN vendor_reports.ordinal IS 'Tells rows apart that are equal in all that never changes.';
COMMENT ON COLUMN vendor_reports.dimensions IS 'Names and values of all that was grouped by.';
COMMENT ON COLUMN vendor_reports.model_raw IS 'Model as the vendor wrote it, else empty.';
COMMENT ON COLUMN vendor_reports.user_name IS 'The person, else empty.';
COMMENT ON COLUMN vendor_reports.responses IS 'Number of requests; NULL when not told.';
COMMENT ON COLUMN vendor_reports.input_tokens IS 'Uncached prompt tokens; NULL when not told.';
COMMENT ON COLUMN vendor_reports.output_tokens IS 'Completion tokens, reasoning included; NULL when not told.';
COMMENT ON COLUMN vendor_reports.cache_read_tokens IS 'Prompt tokens read from a cache; NULL when not told.';
COMMENT ON COLUMN vendor_reports.cache_write_5m_tokens IS 'Prompt tokens written to a cache for five minutes, or for an unknown time; NULL when not told.';
COMMENT ON COLUMN vendor_reports.cache_write_1h_tokens IS 'Prompt tokens written to a cache for one hour; NULL when not told.';
COMMENT ON COLUMN vendor_reports.reasoning_tokens IS 'Reasoning tokens, part of output_tokens; NULL when not told.';
COMMENT ON COLUMN vendor_reports.web_search_requests IS 'Searches done by the vendor; NULL when not told.';
COMMENT ON COLUMN vendor_reports.quantity IS 'Whatever else the vendor counts; NULL when nothing.';
COMMENT ON COLUMN vendor_reports.unit IS 'What the quantity counts, else empty.';
COMMENT ON COLUMN vendor_reports.amount IS 'What it cost, in currency; NULL when the report tells no cost.';
COMMENT ON COLUMN vendor_reports.currency IS 'Currency of the amount, e.g. USD.';
COMMENT ON COLUMN vendor_reports.is_counted IS 'Whether the account''s usage counts in daily_usage.';
COMMENT ON COLUMN vendor_reports.is_shown IS 'Whether the vendor still shows it; the values are the last ones shown.';
COMMENT ON COLUMN vendor_reports.first_seen_at IS 'When the vendor was first seen to show it.';
COMMENT ON COLUMN vendor_reports.seen_at IS 'When these values were first seen.';

CREATE TABLE billing_periods (
    item_id UUID NOT NULL, account VARCHAR NOT NULL, connector VARCHAR NOT NULL, source VARCHAR NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL, ends_at TIMESTAMPTZ, subject VARCHAR NOT NULL, user_name VARCHAR NOT NULL,
    plan VARCHAR NOT NULL, included_usd DECIMAL(38, 12), on_demand_usd DECIMAL(38, 12), total_usd DECIMAL(38, 12),
    included_limit_usd DECIMAL(38, 12), on_demand_limit_usd DECIMAL(38, 12), requests DECIMAL(38, 12),
    is_shown BOOLEAN NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL, seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE billing_periods IS 'The vendor''s own summaries of billing periods, of accounts and of their members.';
COMMENT ON COLUMN billing_periods.item_id IS 'Identity of the item: the same in every version, and in event_changes where it changes.';
COMMENT ON COLUMN billing_periods.account IS 'Name of the account.';
COMMENT ON COLUMN billing_periods.connector IS 'The connector that read it; entered for what was typed in.';
COMMENT ON COLUMN billing_periods.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN billing_periods.starts_at IS 'Begin of the period.';
COMMENT ON COLUMN billing_periods.ends_at IS 'End of the period; NULL while the vendor does not say.';
COMMENT ON COLUMN billing_periods.subject IS 'Id of the member; empty for the whole account.';
COMMENT ON COLUMN billing_periods.user_name IS 'The member''s address or name, else empty.';
COMMENT ON COLUMN billing_periods.plan IS 'Name of the plan, else empty.';
COMMENT ON COLUMN billing_periods.included_usd IS 'Used of what the plan includes, in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN billing_periods.on_demand_usd IS 'Used beyond it, and billed, in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN billing_periods.total_usd IS 'Both in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN billing_periods.included_limit_usd IS 'How much the plan includes, in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN billing_periods.on_demand_limit_usd IS 'How much may be used beyond it, in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN billing_periods.requests IS 'Premium requests; NULL when not told.';
COMMENT ON COLUMN billing_periods.is_shown IS 'Whether the vendor still shows it; the values are the last ones shown.';
COMMENT ON COLUMN billing_periods.first_seen_at IS 'When the vendor was first seen to show it.';
COMMENT ON COLUMN billing_periods.seen_at IS 'When these values were first seen.';

CREATE TABLE invoices (
    item_id UUID NOT NULL, account VARCHAR NOT NULL, connector VARCHAR NOT NULL, source VARCHAR NOT NULL,
    invoice_id VARCHAR NOT NULL, starts_at TIMESTAMPTZ NOT NULL, ends_at TIMESTAMPTZ, issued_at TIMESTAMPTZ,
    amount DECIMAL(38, 12), currency VARCHAR NOT NULL, status VARCHAR NOT NULL, lines JSON NOT NULL,
    is_preview BOOLEAN NOT NULL, is_shown BOOLEAN NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE invoices IS 'Invoices, and vendors'' previews of them; also those entered from a file.';
COMMENT ON COLUMN invoices.item_id IS 'Identity of the item: the same in every version, and in event_changes where it changes.';
COMMENT ON COLUMN invoices.account IS 'Name of the account.';
COMMENT ON COLUMN invoices.connector IS 'The connector that read it; entered for what was typed in.';
COMMENT ON COLUMN invoices.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN invoices.invoice_id IS 'The vendor''s number, or one made of its period.';
COMMENT ON COLUMN invoices.starts_at IS 'Begin of the invoiced period, else when it was issued.';
COMMENT ON COLUMN invoices.ends_at IS 'End of the period, if known.';
COMMENT ON COLUMN invoices.issued_at IS 'When it was issued, if known.';
COMMENT ON COLUMN invoices.amount IS 'Amount in currency; NULL when not known.';
COMMENT ON COLUMN invoices.currency IS 'Currency, e.g. USD.';
COMMENT ON COLUMN invoices.status IS 'The vendor''s word: draft, open, paid, void.';
COMMENT ON COLUMN invoices.lines IS 'Description and amount of each line.';
COMMENT ON COLUMN invoices.is_preview IS 'Whether it is the vendor''s statement of a period, and no invoice.';
COMMENT ON COLUMN invoices.is_shown IS 'Whether the vendor still shows it; the values are the last ones shown.';
COMMENT ON COLUMN invoices.first_seen_at IS 'When the vendor was first seen to show it.';
COMMENT ON COLUMN invoices.seen_at IS 'When these values were first seen.';

CREATE TABLE account_limits (
    item_id UUID NOT NULL, account VARCHAR NOT NULL, connector VARCHAR NOT NULL, source VARCHAR NOT NULL,
    name VARCHAR NOT NULL, subject VARCHAR NOT NULL, user_name VARCHAR NOT NULL, limit_usd DECIMAL(38, 12),
    used_usd DECIMAL(38, 12), is_allowed BOOLEAN, is_shown BOOLEAN NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE account_limits IS 'Limits on what may be spent, and balances.';
COMMENT ON COLUMN account_limits.item_id IS 'Identity of the item: the same in every version, and in event_changes where it changes.';
COMMENT ON COLUMN account_limits.account IS 'Name of the account.';
COMMENT ON COLUMN account_limits.connector IS 'The connector that read it; entered for what was typed in.';
COMMENT ON COLUMN account_limits.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN account_limits.name IS 'Which limit or balance.';
COMMENT ON COLUMN account_limits.subject IS 'Id of the member; empty for the whole account.';
COMMENT ON COLUMN account_limits.user_name IS 'The member''s address or name, else empty.';
COMMENT ON COLUMN account_limits.limit_usd IS 'The limit in USD; NULL when none is set.';
COMMENT ON COLUMN account_limits.used_usd IS 'How much of it is used, in USD; NULL when the vendor tells none.';
COMMENT ON COLUMN account_limits.is_allowed IS 'Whether spending beyond the plan is allowed at all, as the vendor says.';
COMMENT ON COLUMN account_limits.is_shown IS 'Whether the vendor still shows it; the values are the last ones shown.';
COMMENT ON COLUMN account_limits.first_seen_at IS 'When the vendor was first seen to show it.';
COMMENT ON COLUMN account_limits.seen_at IS 'When these values were first seen.';

CREATE TABLE account_members (
    item_id UUID NOT NULL, account VARCHAR NOT NULL, connector VARCHAR NOT NULL, source VARCHAR NOT NULL,
    member_id VARCHAR NOT NULL, user_name VARCHAR NOT NULL, name VARCHAR NOT NULL, role VARCHAR NOT NULL,
    plan VARCHAR NOT NULL, is_removed BOOLEAN NOT NULL, is_shown BOOLEAN NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE account_members IS 'Who belongs to an account, and the account itself.';
COMMENT ON COLUMN account_members.item_id IS 'Identity of the item: the same in every version, and in event_changes where it changes.';
COMMENT ON COLUMN account_members.account IS 'Name of the account.';
COMMENT ON COLUMN account_members.connector IS 'The connector that read it; entered for what was typed in.';
COMMENT ON COLUMN account_members.source IS 'The vendor''s product, as in the tables of usage.';
COMMENT ON COLUMN account_members.member_id IS 'The vendor''s id.';
COMMENT ON COLUMN account_members.user_name IS 'Address or login, else empty.';
COMMENT ON COLUMN account_members.name IS 'Name, else empty.';
COMMENT ON COLUMN account_members.role IS 'account for the account itself, else the vendor''s word.';
COMMENT ON COLUMN account_members.plan IS 'Name of the plan, else empty.';
COMMENT ON COLUMN account_members.is_removed IS 'Whether the vendor says that the member left.';
COMMENT ON COLUMN account_members.is_shown IS 'Whether the vendor still shows it; the values are the last ones shown.';
COMMENT ON COLUMN account_members.first_seen_at IS 'When the vendor was first seen to show it.';
COMMENT ON COLUMN account_members.seen_at IS 'When these values were first seen.';

CREATE TABLE account_transitions (
    transition_id BIGINT NOT NULL, account VARCHAR NOT NULL, state_before VARCHAR NOT NULL,
    state_after VARCHAR NOT NULL, sentence VARCHAR NOT NULL, happened_at TIMESTAMPTZ NOT NULL, until TIMESTAMPTZ
);
COMMENT ON TABLE account_transitions IS 'Every change of an account''s state.';
COMMENT ON COLUMN account_transitions.transition_id IS 'Ascending number.';
COMMENT ON COLUMN account_transitions.account IS 'Name of the account.';
COMMENT ON COLUMN account_transitions.state_before IS 'State before.';
COMMENT ON COLUMN account_transitions.state_after IS 'State after.';
COMMENT ON COLUMN account_transitions.sentence IS 'Why, as a sentence.';
COMMENT ON COLUMN account_transitions.happened_at IS 'When.';
COMMENT ON COLUMN account_transitions.until IS 'When it ends by itself; NULL when that is not known.';

COMMENT ON TABLE event_changes IS 'Every change of an event, or of what a vendor says of an account, that was already known: what it was, what it became, when and why.';
COMMENT ON COLUMN event_changes.event_id IS 'The event that changed, or the item_id of what a vendor said.';
COMMENT ON COLUMN event_changes.subject IS 'event (the event itself), price (only what it costs), or what a vendor said: vendor_event (of an account that does not count), report, period, invoice, limit or member.';
COMMENT ON COLUMN event_changes.after IS 'The row after, as JSON; NULL when the event was found to be a copy of another one, or is shown no longer.';
COMMENT ON COLUMN daily_usage.source IS 'The agent, or the vendor''s product whose account shows it.';
COMMENT ON COLUMN daily_usage.account IS 'Label of the log root, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN daily_usage.machine IS 'Label of the machine; empty for what belongs to a whole account.';
