-- What is held against each other for every account and billing period, and which evidence counts. Views, so that nothing can
-- be out of date: a month's invoice explains itself as soon as the usage it bills is there.

CREATE OR REPLACE VIEW reconciliation AS
WITH invoiced AS (  -- one that was typed in makes way for the vendor's own of the same number
    SELECT * FROM invoices
    WHERE is_shown AND lower(status) NOT IN ('void', 'uncollectible') AND NOT (
        connector = 'entered' AND EXISTS (
            FROM invoices AS own
            WHERE own.account = invoices.account AND own.invoice_id = invoices.invoice_id AND own.connector <> 'entered'
                AND own.is_shown
        )
    )
),
summaries AS (  -- also those that the vendor shows no longer: some show the present one alone
    SELECT account, starts_at, total_usd, coalesce(included_usd, 0) > 0 AS has_plan, coalesce(
            ends_at, lead(starts_at) OVER (PARTITION BY account ORDER BY starts_at),
            ((starts_at AT TIME ZONE 'UTC') + INTERVAL 1 MONTH) AT TIME ZONE 'UTC'
        ) AS ends_at
    FROM (
        FROM billing_periods WHERE subject = ''
        QUALIFY row_number() OVER (PARTITION BY account, starts_at ORDER BY is_shown DESC, seen_at DESC, item_id) = 1
    )
),
known_periods AS (
    SELECT account, starts_at, ends_at FROM summaries
    UNION ALL
    SELECT DISTINCT account, starts_at, ends_at FROM invoiced AS now
    WHERE ends_at > starts_at
        AND NOT EXISTS (
            FROM summaries AS other
            WHERE other.account = now.account AND other.starts_at < now.ends_at AND other.ends_at > now.starts_at
        )
        AND NOT EXISTS (  -- of two that overlap, the one that begins first, and of those the longest
            FROM invoiced AS other
            WHERE other.account = now.account AND other.starts_at < now.ends_at AND other.ends_at > now.starts_at
                AND (other.starts_at < now.starts_at
                    OR (other.starts_at = now.starts_at AND other.ends_at > now.ends_at))
        )
),
boundaries AS (  -- between two of them, everything is in one period, or in one month
    SELECT starts_at AS instant FROM known_periods UNION SELECT ends_at FROM known_periods
    UNION SELECT month AT TIME ZONE 'UTC'
    FROM generate_series(TIMESTAMP '2019-12-01', TIMESTAMP '2200-01-01', INTERVAL 1 MONTH) AS months (month)
),
responses AS (  -- added up before they are given to accounts: there are many, and several accounts may want the same
    SELECT source, provider, route, account, boundaries.instant, sum(cost_usd) AS usd, count(*) AS rows,
        count(*) FILTER (WHERE cost_usd IS NULL) AS unknown
    FROM (
        SELECT source, provider, route, account, occurred_at, cost_usd
        FROM core.priced_events JOIN core.contexts USING (context_id)
        WHERE evidence = 'message' AND (SELECT count(*) FROM accounts WHERE len(local_sources) > 0) > 0
    ) AS events ASOF JOIN boundaries ON events.occurred_at >= boundaries.instant
    GROUP BY ALL
),
amounts AS (  -- everything that tells an amount, or that there is one
    SELECT account, occurred_at AS instant, 'usage' AS says, charged_usd AS usd, 1 AS rows,
        (charged_usd IS NULL)::BIGINT AS unknown
    FROM vendor_events WHERE is_shown
    UNION ALL
    SELECT account, starts_at, CASE WHEN coalesce(input_tokens, output_tokens) IS NULL THEN 'cost' ELSE 'usage' END,
        CASE WHEN currency = 'USD' THEN amount END, 1, (currency <> 'USD')::BIGINT
    FROM vendor_reports
    WHERE is_shown AND amount IS NOT NULL AND report <> 'claude_code'  -- an estimate of a part of what is billed
    UNION ALL  -- what counts and is priced by its tokens
    SELECT account, occurred_at, 'usage', cost_usd, 1, (cost_usd IS NULL)::BIGINT
    FROM priced_events WHERE evidence = 'aggregate' AND machine = '' AND account <> '' AND reported_cost_usd IS NULL
    UNION ALL
    SELECT account, starts_at, CASE WHEN is_preview THEN 'preview' ELSE 'invoice' END,
        CASE WHEN currency = 'USD' THEN amount END, 1, (currency <> 'USD' OR amount IS NULL)::BIGINT
    FROM invoiced
    UNION ALL
    SELECT accounts.account, seen.instant, 'local', seen.usd, seen.rows, seen.unknown
    FROM responses AS seen JOIN accounts
        ON (list_contains(local_sources, seen.source) OR list_contains(local_sources, 'provider:' || seen.provider)
            OR list_contains(local_sources, 'provider:' || seen.route))
        AND (local_account IS NULL OR local_account = seen.account)
),
placed AS (  -- in the period it lies in, else in its UTC month, of which only what lies in no period is left then
    SELECT amounts.*,
        coalesce(known.starts_at, date_trunc('month', instant AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') AS period_start,
        coalesce(known.ends_at, (date_trunc('month', instant AT TIME ZONE 'UTC') + INTERVAL 1 MONTH) AT TIME ZONE 'UTC')
            AS period_end
    FROM amounts LEFT JOIN known_periods AS known
        ON known.account = amounts.account AND amounts.instant >= known.starts_at AND amounts.instant < known.ends_at
    UNION ALL
    SELECT account, starts_at, 'period', NULL, 1, 0, starts_at, ends_at FROM known_periods
),
sums AS (
    SELECT account, period_start, period_end,
        sum(usd) FILTER (WHERE says = 'local') AS local_usd,
        coalesce(sum(rows) FILTER (WHERE says = 'local'), 0)::BIGINT AS local_rows,
        coalesce(sum(unknown) FILTER (WHERE says = 'local'), 0)::BIGINT AS local_unknown,
        sum(usd) FILTER (WHERE says = 'usage') AS usage_usd,
        coalesce(sum(unknown) FILTER (WHERE says = 'usage'), 0)::BIGINT AS usage_unknown,
        sum(usd) FILTER (WHERE says = 'cost') AS cost_usd,
        sum(usd) FILTER (WHERE says = 'invoice') AS invoice_usd, count(*) FILTER (WHERE says = 'invoice') AS invoice_rows,
        sum(usd) FILTER (WHERE says = 'preview') AS preview_usd,
        coalesce(sum(unknown) FILTER (WHERE says IN ('invoice', 'cost')), 0)::BIGINT AS kept_apart
    FROM placed GROUP BY account, period_start, period_end HAVING count(*) FILTER (WHERE says <> 'local') > 0
),
compared AS (
    SELECT sums.*, accounts.vendor, coalesce(has_plan, false) AS has_plan,
        summaries.total_usd IS NOT NULL AS is_summed_up, accounts.tolerance_percent,
        CASE WHEN len(local_sources) = 0 THEN NULL WHEN local_rows = 0 THEN 0 ELSE local_usd END AS local_amount,
        coalesce(summaries.total_usd, cost_usd) AS cost_amount,
        CASE WHEN invoice_rows > 0 THEN invoice_usd ELSE preview_usd END AS invoice_amount,
        period_end > coalesce(last_success_at, now()) AS is_open
    FROM sums JOIN accounts USING (account)
    LEFT JOIN summaries ON summaries.account = sums.account AND summaries.starts_at = sums.period_start
),
judged AS (
    SELECT *,
        -- What a plan includes is used and never billed, so an invoice of a plan says nothing about usage.
        CASE WHEN invoice_amount IS NOT NULL AND NOT has_plan THEN 'invoice'
            WHEN cost_amount IS NOT NULL THEN 'cost' WHEN usage_usd IS NOT NULL THEN 'usage'
        END AS billed_by,
        CASE billed_by WHEN 'invoice' THEN invoice_amount WHEN 'cost' THEN cost_amount WHEN 'usage' THEN usage_usd END
            AS billed,
        CASE billed_by WHEN 'invoice' THEN coalesce(usage_usd, local_amount, cost_amount)
            WHEN 'cost' THEN coalesce(usage_usd, local_amount) WHEN 'usage' THEN local_amount
        END AS explanation,
        CASE WHEN billed_by <> 'usage' AND usage_usd IS NOT NULL THEN 'usage' WHEN local_amount IS NOT NULL THEN 'local'
            WHEN billed_by = 'invoice' THEN 'cost'
        END AS explained_by,
        (billed - explanation)::DECIMAL(38, 12) AS remainder,
        (abs(billed) * tolerance_percent / 100::DECIMAL(18, 4))::DECIMAL(38, 12) AS tolerance,
        CASE WHEN remainder IS NULL THEN 'unknown' WHEN is_open THEN 'open'
            WHEN abs(remainder) <= 0.005 THEN 'explained'
            WHEN abs(remainder) <= tolerance THEN 'within_tolerance' ELSE 'unexplained'
        END AS verdict
    FROM compared
),
measured AS (
    SELECT *, unnest(['local_events', 'vendor_usage', 'vendor_cost_report', 'invoice', 'unexplained']) AS measure,
        unnest([1, 2, 3, 4, 5]) AS place
    FROM judged
),
told AS (
    SELECT *,
        CASE measure WHEN 'local_events' THEN local_amount WHEN 'vendor_usage' THEN usage_usd
            WHEN 'vendor_cost_report' THEN cost_amount WHEN 'invoice' THEN invoice_amount ELSE remainder
        END::DECIMAL(38, 12) AS amount_usd
    FROM measured
)
SELECT account, vendor, period_start, period_end, measure, amount_usd, tolerance AS tolerance_usd,
    CASE WHEN amount_usd IS NULL THEN 'unknown' ELSE verdict END AS status,
    CASE measure
        WHEN 'local_events' THEN
            CASE WHEN local_amount IS NULL AND local_rows = 0 THEN 'No agent''s log is said to show the same calls.'
                WHEN local_unknown > 0 THEN concat('Agents'' logs show ', local_rows, ' responses, ', local_unknown,
                    ' of them without a known price.')
                ELSE concat('Agents'' logs show ', local_rows, ' responses.')
            END
        WHEN 'vendor_usage' THEN
            CASE WHEN usage_unknown = 1 THEN 'Of one row of usage the vendor tells no cost yet.'
                WHEN usage_unknown > 0 THEN concat('Of ', usage_unknown, ' rows of usage the vendor tells no cost yet.')
                WHEN usage_usd IS NULL THEN 'The vendor tells no cost of its usage.'
                ELSE 'What the vendor counts for its usage.'
            END
        WHEN 'vendor_cost_report' THEN
            CASE WHEN is_summed_up THEN 'The vendor''s own summary of the billing period.'
                WHEN cost_usd IS NOT NULL THEN 'The vendor''s cost report.'
                ELSE 'The vendor tells no cost of the period.'
            END
        WHEN 'invoice' THEN
            concat(
                CASE WHEN invoice_rows = 0 AND preview_usd IS NOT NULL THEN 'No invoice yet, but the vendor''s statement.'
                    WHEN invoice_rows = 0 THEN 'No invoice is known.'
                    WHEN invoice_rows = 1 THEN 'One invoice.' ELSE concat(invoice_rows, ' invoices.')
                END,
                CASE WHEN kept_apart > 0 THEN
                    ' Amounts in another currency, or not known, are kept apart: see the table invoices.' ELSE '' END,
                CASE WHEN has_plan AND invoice_amount IS NOT NULL THEN
                    ' It bills a plan that includes usage, so it is not compared with usage.' ELSE '' END
            )
        ELSE
            CASE verdict
                WHEN 'unknown' THEN 'There is nothing to compare: fewer than two amounts are known.'
                ELSE concat(
                    CASE billed_by WHEN 'invoice' THEN 'The invoice' WHEN 'cost' THEN 'The vendor''s cost of the period'
                        ELSE 'The vendor''s usage' END,
                    CASE verdict WHEN 'explained' THEN ' is explained to the cent by '
                        WHEN 'within_tolerance' THEN ' is explained within the tolerance by '
                        WHEN 'open' THEN ' of a period that is still open is held against '
                        ELSE ' is not explained by ' END,
                    CASE explained_by WHEN 'usage' THEN 'the vendor''s usage.' WHEN 'local' THEN 'agents'' logs.'
                        ELSE 'the vendor''s cost of the period.' END
                )
            END
    END AS sentence
FROM told ORDER BY account, period_start, place;
COMMENT ON VIEW reconciliation IS 'For every vendor account and billing period, what agents'' logs, the vendor''s usage, its cost report and its invoices say it cost, and what of it is not explained. By instants, not by local days.';
COMMENT ON COLUMN reconciliation.account IS 'Name of the account.';
COMMENT ON COLUMN reconciliation.vendor IS 'The company behind it.';
COMMENT ON COLUMN reconciliation.period_start IS 'Begin of the billing period: of the vendor''s summary, else of an invoice, else of the UTC month.';
COMMENT ON COLUMN reconciliation.period_end IS 'End of the period, which is no part of it.';
COMMENT ON COLUMN reconciliation.measure IS 'local_events, vendor_usage, vendor_cost_report, invoice, or unexplained: what is billed less what explains it.';
COMMENT ON COLUMN reconciliation.amount_usd IS 'The amount in USD; NULL when it is not known. Other currencies are kept apart.';
COMMENT ON COLUMN reconciliation.tolerance_usd IS 'How much may be unexplained: the account''s share of what is billed; NULL when nothing is.';
COMMENT ON COLUMN reconciliation.status IS 'explained (to the cent), within_tolerance, unexplained, open (the vendor may still revise it), or unknown.';
COMMENT ON COLUMN reconciliation.sentence IS 'The same in words.';

CREATE OR REPLACE VIEW counted_evidence AS
WITH used AS (
    SELECT source, account, machine = '' AS is_account, evidence, sum(responses)::BIGINT AS events, count(*) AS rows,
        sum(cost_usd) AS cost_usd
    FROM priced_events GROUP BY ALL
),
shown AS (
    SELECT source, account, is_counted, 'requests' AS what, count(*) AS events, sum(charged_usd) AS cost_usd
    FROM vendor_events WHERE is_shown GROUP BY ALL
    UNION ALL
    SELECT source, account, is_counted, 'report', count(*), sum(amount) FILTER (WHERE currency = 'USD')
    FROM vendor_reports WHERE is_shown AND coalesce(input_tokens, output_tokens) IS NOT NULL GROUP BY ALL
)
SELECT source, account, evidence, true AS is_counted, events, cost_usd,
    CASE WHEN evidence = 'message' THEN 'Single responses that were seen on a machine.'
        WHEN evidence IN ('vendor', 'charge') THEN 'Single requests that the vendor shows, of an account that counts.'
        WHEN is_account THEN 'Sums that the vendor reports, on days on which no single request of the account is known.'
        ELSE 'Sums from other machines, on days on which no single response of them is known.'
    END AS reason
FROM used
UNION ALL
SELECT source, account, CASE WHEN what = 'requests' THEN 'vendor' ELSE 'aggregate' END, false, events, cost_usd,
    'The account does not count: agents'' logs show the same calls, or are said to.'
FROM shown WHERE NOT is_counted
UNION ALL
SELECT shown.source, shown.account, CASE WHEN what = 'requests' THEN 'vendor' ELSE 'aggregate' END, false,
    shown.events - coalesce(sum(used.rows), 0)::BIGINT, NULL,
    CASE WHEN what = 'requests' THEN 'Another account shows the same requests.'
        ELSE 'Single requests of the account are known on the same days, or another report has the same.'
    END
FROM shown LEFT JOIN used
    ON used.source = shown.source AND used.account = shown.account AND used.is_account
    AND (used.evidence = 'aggregate') = (what = 'report')
WHERE shown.is_counted GROUP BY shown.source, shown.account, what, shown.events
HAVING shown.events > coalesce(sum(used.rows), 0);
COMMENT ON VIEW counted_evidence IS 'Which evidence counts in daily_usage for every source and account, and what does not and why: the same calls are never added twice.';
COMMENT ON COLUMN counted_evidence.source IS 'The agent, or the vendor''s product whose account shows it.';
COMMENT ON COLUMN counted_evidence.account IS 'Label of the log root, account of the recorded call, or name of the vendor account; else empty.';
COMMENT ON COLUMN counted_evidence.evidence IS 'message, vendor, charge or aggregate, as in priced_events.';
COMMENT ON COLUMN counted_evidence.is_counted IS 'Whether it is in daily_usage.';
COMMENT ON COLUMN counted_evidence.events IS 'Responses that are counted; of what is not counted, requests or rows of a report.';
COMMENT ON COLUMN counted_evidence.cost_usd IS 'What they cost in USD; NULL when not known.';
COMMENT ON COLUMN counted_evidence.reason IS 'Why, as a sentence.';
