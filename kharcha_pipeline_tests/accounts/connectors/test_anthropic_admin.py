from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.connectors.anthropic_admin import ANTHROPIC_ADMIN, MESSAGES_GROUPING
from kharcha_pipeline.accounts.failures import (
    AccountsUsageError,
    DeadlinePassed,
    Denied,
    Drifted,
    Inconsistent,
    Misconfigured,
    Unauthorized,
)
from kharcha_pipeline.accounts.items import Limit, Member, ReportRow
from kharcha_pipeline_tests.accounts.anthropic_vendor import ADMIN_KEY, AnthropicVendor, claude_code, cost, used
from kharcha_pipeline_tests.accounts.connectors.reading import TODAY, WEEK, YESTERDAY, Reading, reading
from kharcha_pipeline_tests.accounts.storing import standing, versions
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply, TurnedClock

MESSAGES = "/v1/organizations/usage_report/messages"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def vendor(clock: TurnedClock) -> AnthropicVendor:
    return AnthropicVendor(clock)


@pytest.fixture
def account(vendor: AnthropicVendor, clock: TurnedClock, tmp_path: Path) -> Iterator[Reading]:
    with reading(ANTHROPIC_ADMIN, vendor, ADMIN_KEY, tmp_path, clock) as opened:
        yield opened


def dimensions(row: ReportRow) -> dict[str, str]:
    return dict(row.dimensions)


def test_usage_report_counters_are_disjoint_and_carry_no_money(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [
        used(
            YESTERDAY.from_ms + HOUR_MS,
            uncached_input_tokens=1500,
            cache_read_input_tokens=200_000,
            ephemeral_5m_input_tokens=1000,
            ephemeral_1h_input_tokens=70,
            output_tokens=800,
            web_search_requests=2,
        )
    ]
    (row,) = account.items("usage", YESTERDAY)
    assert row == ReportRow(
        report="messages",
        grouping=",".join(MESSAGES_GROUPING),
        at_ms=YESTERDAY.from_ms,
        until_ms=YESTERDAY.until_ms,
        dimensions=(
            ("account_id", ""),
            ("api_key_id", "apikey_EXAMPLE"),
            ("context_window", "0-200k"),
            ("inference_geo", "global"),
            ("model", "claude-example-1"),
            ("service_account_id", ""),
            ("service_tier", "standard"),
            ("workspace_id", ""),
        ),
        model_raw="claude-example-1",
        input_tokens=1500,
        output_tokens=800,
        cache_read_tokens=200_000,
        cache_write_5m_tokens=1000,
        cache_write_1h_tokens=70,
        web_search_requests=2,
    )


def test_cost_report_is_cents_in_decimal_strings(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.costs = [
        cost(
            YESTERDAY.from_ms, "claude-example-1 input tokens", "123.45", cost_type="tokens", model="claude-example-1"
        ),
        cost(YESTERDAY.from_ms, "web search", "20", cost_type="web_search"),
    ]
    normalized = account.normalized("costs", YESTERDAY)
    assert [row.amount for row in normalized.items] == [Decimal("1.2345"), Decimal("0.20")]
    assert sum(row.amount for row in normalized.items) == Decimal("1.4345")
    assert {row.currency for row in normalized.items} == {"USD"}
    assert dimensions(normalized.items[1]) == {"description": "web search", "workspace_id": ""}
    assert normalized.items[1].model_raw == ""
    assert not normalized.notes


def test_claude_code_report_is_cents_as_numbers_by_utc_day(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.claude_code = [claude_code(YESTERDAY.from_ms + HOUR_MS, "asha@example.com")]
    normalized = account.normalized("claude-code", YESTERDAY)
    sessions, row = normalized.items
    assert row.amount == Decimal("1.23")
    assert (row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_5m_tokens) == (
        1500,
        800,
        200_000,
        1000,
    )
    assert dimensions(row) == {
        "actor": "asha@example.com",
        "actor_type": "user_actor",
        "customer_type": "api",
        "terminal_type": "vscode",
        "model": "claude-example-1",
    }
    assert (row.at_ms, row.until_ms, row.user) == (*YESTERDAY, "asha@example.com")
    assert (sessions.report, sessions.quantity, sessions.unit) == ("claude_code_sessions", Decimal(3), "sessions")
    assert not normalized.notes


def test_several_records_of_one_actor_differ_by_terminal_and_customer_type(
    account: Reading, vendor: AnthropicVendor
) -> None:
    vendor.claude_code = [
        claude_code(YESTERDAY.from_ms, "asha@example.com", terminal_type=terminal, customer_type=customer)
        for terminal in ("vscode", "iTerm.app")
        for customer in ("api", "subscription")
    ]
    rows = [row for row in account.items("claude-code", YESTERDAY) if row.report == "claude_code"]
    assert len({row.group for row in rows}) == 4


def test_a_key_is_an_actor_too(account: Reading, vendor: AnthropicVendor) -> None:
    actor = {"type": "api_actor", "api_key_name": "ci-key"}
    vendor.claude_code = [claude_code(YESTERDAY.from_ms, "", actor=actor)]
    assert {row.user for row in account.items("claude-code", YESTERDAY)} == {"ci-key"}


def test_claude_code_is_asked_one_utc_day_at_a_time(account: Reading) -> None:
    account.answers("claude-code", WEEK)
    asked = [received.parameters["starting_at"] for received in account.server.log]
    assert asked == [f"2026-11-{day}" for day in range(13, 20)]


def test_null_dimensions_are_coalesced_and_the_grouping_is_kept(account: Reading, vendor: AnthropicVendor) -> None:
    """Null means the console for a key and the default workspace for a workspace: told apart by the grouping."""
    vendor.messages = [
        used(YESTERDAY.from_ms, api_key_id=None, output_tokens=1),
        used(YESTERDAY.from_ms, workspace_id="wrkspc_EXAMPLE", output_tokens=2),
    ]
    console, workspace = account.items("usage", YESTERDAY)
    assert dimensions(console)["api_key_id"] == dimensions(console)["workspace_id"] == ""
    assert dimensions(workspace)["workspace_id"] == "wrkspc_EXAMPLE"
    assert console.grouping == workspace.grouping == ",".join(sorted(dimensions(console)))
    assert console.group != workspace.group


def test_lists_are_sent_with_brackets_and_the_running_day_is_asked_for_whole(account: Reading) -> None:
    account.answers("usage", Window(TODAY, account.clock.now_ms()))
    (received,) = account.server.log
    assert received.query == [
        ("starting_at", "2026-11-20T00:00:00Z"),
        ("ending_at", "2026-11-21T00:00:00Z"),
        ("bucket_width", "1d"),
        ("limit", "7"),
        *(("group_by[]", name) for name in MESSAGES_GROUPING),
    ]


def test_today_is_told_while_it_runs(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(TODAY + HOUR_MS, output_tokens=5)]
    (row,) = account.items("usage", Window(TODAY, account.clock.now_ms()))
    assert (row.at_ms, row.until_ms, row.output_tokens) == (TODAY, TODAY + DAY_MS, 5)


@pytest.mark.parametrize("days", [1, 2, 3, 6])
def test_exact_multiple_of_page_size_and_single_page(days: int, account: Reading, vendor: AnthropicVendor) -> None:
    vendor.buckets_a_page = 3
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in range(1, 7)]
    rows = account.items("usage", Window(TODAY - days * DAY_MS, TODAY))
    assert sorted(row.output_tokens for row in rows) == list(range(1, days + 1))
    assert len(account.server.log) == -(-days // 3)


def test_zero_events_are_a_success(account: Reading) -> None:
    normalized = account.normalized("usage", WEEK)
    assert not normalized.items
    assert not normalized.is_suspicious
    assert len(account.server.log) == 1


def test_an_empty_object_is_no_empty_report(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.reshape = lambda path, content: {}
    with pytest.raises(Drifted):
        account.answers("usage", WEEK)


def test_answer_without_content_is_no_empty_report(account: Reading) -> None:
    account.server.faults.append(Fault(MESSAGES, Reply(204)))
    with pytest.raises(Drifted):
        account.answers("usage", WEEK)


def test_short_page_in_the_middle(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in range(1, 6)]
    vendor.buckets_a_page = 2
    answered: list[Any] = []

    def shortened(path: str, content: Any) -> Any:
        answered.append(content)
        if len(answered) == 2:
            vendor.buckets_a_page = 1
        return content

    vendor.reshape = shortened
    assert len(account.items("usage", WEEK)) == 5


def test_bucket_that_comes_on_two_pages_is_read_again(account: Reading, vendor: AnthropicVendor) -> None:
    """What shifts while it is read would be counted twice."""
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in range(1, 8)]
    vendor.buckets_a_page = 3
    first: list[Any] = []

    def shifting(path: str, content: Any) -> Any:
        if not first:
            first.append(content["data"][-1])
        elif len(first) == 1:
            first.append(None)
            content["data"].insert(0, first[0])
        return content

    vendor.reshape = shifting
    rows = account.items("usage", WEEK)
    assert sorted(row.output_tokens for row in rows) == list(range(1, 8))
    assert len(account.server.log) == 2 + 3


def test_list_that_never_stops_shifting_is_inconsistent(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.buckets_a_page = 3
    vendor.reshape = lambda path, content: {**content, "data": [*content["data"], content["data"][-1]]}
    with pytest.raises(Inconsistent, match="in 3 attempts"):
        account.answers("usage", WEEK)
    assert len(account.server.log) == 3


def test_same_page_returned_for_ever(account: Reading, vendor: AnthropicVendor) -> None:
    again = {"data": [], "has_more": True, "next_page": "page_again"}
    account.server.answer = lambda received: Reply(200, again)
    with pytest.raises(Inconsistent, match="in a circle"):
        account.answers("usage", WEEK)
    assert len(account.server.log) == 2


def test_pages_that_never_end(account: Reading) -> None:
    """Each with a cursor of its own, and nothing on it."""
    account.server.answer = lambda received: Reply(
        200, {"data": [], "has_more": True, "next_page": f"page_{len(account.server.log)}"}
    )
    with pytest.raises(DeadlinePassed):  # the rate ends it before the guard on pages does
        account.answers("usage", WEEK)
    assert len(account.server.log) == 60


def test_more_is_promised_without_a_way_to_it(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.reshape = lambda path, content: {**content, "has_more": True, "next_page": None}
    with pytest.raises(Inconsistent):
        account.answers("usage", WEEK)


def test_page_cursor_expired_restarts_from_page_one(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in range(1, 8)]
    vendor.buckets_a_page = 3
    vendor.cursors.lifetime_ms = MINUTE_MS

    def slow(path: str, content: Any) -> Any:
        if len(account.server.log) == 1:
            account.clock.advance(60)
        return content

    vendor.reshape = slow
    rows = account.items("usage", WEEK)
    assert sorted(row.output_tokens for row in rows) == list(range(1, 8))
    assert [received.status for received in account.server.log] == [200, 410, 200, 200, 200]


def test_page_cursor_expires_again_and_again(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.buckets_a_page = 3
    vendor.cursors.lifetime_ms = 0
    with pytest.raises(Inconsistent, match="in 3 attempts"):
        account.answers("usage", WEEK)
    assert [received.status for received in account.server.log] == [200, 410] * 3


@pytest.mark.parametrize("resource", ["usage", "costs", "claude-code"])
def test_query_is_unchanged_while_paging(resource: str, account: Reading, vendor: AnthropicVendor) -> None:
    """A cursor that is sent with other parameters is answered with 400."""
    vendor.buckets_a_page = vendor.rows_a_page = 1
    vendor.claude_code = [claude_code(YESTERDAY.from_ms, f"person{number}@example.com") for number in range(3)]
    account.answers(resource, WEEK if resource != "claude-code" else YESTERDAY)
    questions = {tuple(pair for pair in received.query if pair[0] != "page") for received in account.server.log}
    assert len(questions) == 1
    assert len(account.server.log) >= 3


def test_data_longer_than_limit_is_kept(account: Reading, vendor: AnthropicVendor) -> None:
    """`limit` counts buckets; a bucket has as many rows as it has."""
    vendor.messages = [used(YESTERDAY.from_ms, model=f"model-{number}", output_tokens=1) for number in range(100)]
    assert len(account.items("usage", YESTERDAY)) == 100


def test_rows_outside_the_window_are_dropped_and_counted(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in range(1, 5)]
    answers = account.answers("usage", WEEK)
    normalized = ANTHROPIC_ADMIN.normalize(account.settings, account.resource("usage"), YESTERDAY, answers)
    assert [row.output_tokens for row in normalized.items] == [1]
    assert normalized.notes["outside the window"] == 3


def test_bucket_on_the_boundary_of_two_windows_is_in_one_of_them(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in (1, 2, 3)]
    for begin in (3, 2, 1):
        window = Window(TODAY - begin * DAY_MS, TODAY - (begin - 1) * DAY_MS)
        assert [row.output_tokens for row in account.items("usage", window)] == [begin]
        account.poll("usage", window)
    assert len(standing(account.store, "report")) == 3


def test_two_records_that_look_alike_stay_two(account: Reading, vendor: AnthropicVendor) -> None:
    """What tells them apart is no part of the key, or is not told at all: both amounts count."""
    vendor.claude_code = [claude_code(YESTERDAY.from_ms, "asha@example.com") for _ in range(3)]
    vendor.claude_code[2].visible_from_ms = account.clock.now_ms() + HOUR_MS
    inserted = []
    for _ in range(3):
        applied = account.poll("claude-code", YESTERDAY)
        inserted.append((applied.inserted, applied.changed, applied.vanished))
        account.clock.advance(3600)
    assert inserted == [(4, 0, 0), (2, 0, 0), (0, 0, 0)]


def test_same_answer_twice_changes_nothing(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(TODAY - day * DAY_MS, output_tokens=day) for day in range(1, 8)]
    first = account.poll("usage", WEEK)
    account.clock.advance(3600)
    again = account.poll("usage", WEEK)
    assert (first.inserted, again.inserted, again.changed, again.vanished) == (7, 0, 0, 0)


def test_bucket_is_replaced_as_a_whole(account: Reading, vendor: AnthropicVendor) -> None:
    """After regrouping, a row of a day goes and another one comes: both at once."""
    changes_at = account.clock.now_ms() + HOUR_MS
    vendor.messages = [
        used(YESTERDAY.from_ms, output_tokens=9),
        used(YESTERDAY.from_ms + 1, model="b", output_tokens=1),
    ]
    vendor.messages[0].revisions = [(changes_at, "workspace_id", "wrkspc_LATER"), (changes_at, "output_tokens", 8)]
    account.poll("usage", YESTERDAY)
    account.clock.advance(3600)
    applied = account.poll("usage", YESTERDAY)
    assert (applied.inserted, applied.vanished, applied.unchanged) == (1, 1, 1)
    assert sorted(
        (dimensions(row)["workspace_id"], row.output_tokens) for row in standing(account.store, "report")
    ) == [
        ("", 1),
        ("wrkspc_LATER", 8),
    ]


def test_cost_that_changes_within_the_lookback_is_one_change(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "claude-example-1 input tokens", "123.45")]
    vendor.costs[0].revisions = [(account.clock.now_ms() + HOUR_MS, "amount", Decimal("130.005"))]
    account.poll("costs", YESTERDAY)
    account.clock.advance(3600)
    assert account.poll("costs", YESTERDAY).changed == 1
    amounts = [item.amount for _, item, _ in versions(account.store, "report") if isinstance(item, ReportRow)]
    assert amounts == [Decimal("1.2345"), Decimal("1.30005")]


def test_day_that_fills_late_is_found_again(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=1)]
    vendor.messages[0].visible_from_ms = account.clock.now_ms() + HOUR_MS
    assert account.poll("usage", YESTERDAY).inserted == 0
    account.clock.advance(3600)
    assert account.poll("usage", YESTERDAY).inserted == 1


# ------------------------------------------------------------------------------------------------ schema drift


def rows_reshaped(change: Any) -> Any:
    def reshape(path: str, content: Any) -> Any:
        for bucket in content["data"]:
            bucket["results"] = [change(row) for row in bucket["results"]]
        return content

    return reshape


def test_renamed_begin_of_buckets_is_a_drift_and_no_shift(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.reshape = lambda path, content: {
        **content,
        "data": [{"begins_at": bucket.pop("starting_at"), **bucket} for bucket in content["data"]],
    }
    with pytest.raises(Drifted):
        account.answers("usage", WEEK)
    assert len(account.server.log) == 1


def test_new_field_is_ignored_and_reported_once_a_field(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, model=model, output_tokens=1) for model in ("a", "b")]
    vendor.reshape = rows_reshaped(lambda row: {**row, "thinking_tokens": 5})
    normalized = account.normalized("usage", YESTERDAY)
    assert len(normalized.items) == 2
    assert normalized.notes == {'new field "thinking_tokens"': 2}


def test_new_model_and_tier_are_kept_raw(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, model="claude-unheard-of", service_tier="brand_new", output_tokens=1)]
    (row,) = account.items("usage", YESTERDAY)
    assert (row.model_raw, dimensions(row)["service_tier"]) == ("claude-unheard-of", "brand_new")


def test_number_as_string_is_coerced_where_lossless(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=17)]
    vendor.reshape = rows_reshaped(lambda row: {**row, "output_tokens": "17"})
    (row,) = account.items("usage", YESTERDAY)
    assert row.output_tokens == 17


def test_count_that_cannot_be_read_is_unknown_and_noted(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=17)]
    vendor.reshape = rows_reshaped(lambda row: {**row, "output_tokens": "many"})
    normalized = account.normalized("usage", YESTERDAY)
    assert normalized.items[0].output_tokens is None  # type: ignore[union-attr]
    assert normalized.notes == {'unreadable field "output_tokens"': 1}


def test_missing_split_of_cache_writes_is_unknown(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=17)]
    vendor.reshape = rows_reshaped(lambda row: {**row, "cache_creation": None})
    (row,) = account.items("usage", YESTERDAY)
    assert (row.cache_write_5m_tokens, row.cache_write_1h_tokens) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: {name: value for name, value in row.items() if name != "output_tokens"},
        lambda row: {name: value for name, value in row.items() if name != "model"},
        lambda row: [row],
        lambda row: {**row, "cache_creation": 5},
    ],
    ids=["required field renamed", "dimension renamed", "object became a list", "object became a number"],
)
def test_changed_shape_rejects_the_window(change: Any, account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=17, workspace_id="wrkspc_PRIVATE")]
    vendor.reshape = rows_reshaped(change)
    with pytest.raises(Drifted) as caught:
        account.normalized("usage", YESTERDAY)
    assert "PRIVATE" not in f"{caught.value} {caught.value.sample}"


def test_null_instead_of_rows_is_not_taken_for_no_rows(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=17)]
    account.poll("usage", YESTERDAY)
    account.clock.advance(3600)
    vendor.reshape = lambda path, content: {
        **content,
        "data": [{**bucket, "results": None} for bucket in content["data"]],
    }
    with pytest.raises(Drifted):
        account.poll("usage", YESTERDAY)
    assert len(standing(account.store, "report")) == 1


@pytest.mark.parametrize("name", ["account_id", "service_account_id", "inference_geo", "context_window"])
def test_younger_dimension_that_is_left_out_is_empty(name: str, account: Reading, vendor: AnthropicVendor) -> None:
    vendor.messages = [used(YESTERDAY.from_ms, output_tokens=17)]
    vendor.reshape = rows_reshaped(lambda row: {other: value for other, value in row.items() if other != name})
    (row,) = account.items("usage", YESTERDAY)
    assert dimensions(row)[name] == ""


@pytest.mark.parametrize("begin", [1_795_046_400, 1_795_046_400_000, "1970-01-21T18:37:26Z", "2026-11-19T05:00:00Z"])
def test_bucket_that_is_no_utc_day_rejects_the_window(begin: Any, account: Reading, vendor: AnthropicVendor) -> None:
    def reshape(path: str, content: Any) -> Any:
        content["data"][0]["starting_at"] = begin
        return content

    vendor.reshape = reshape
    with pytest.raises(Drifted):
        account.normalized("usage", YESTERDAY)


@pytest.mark.parametrize(
    ("cents", "dollars"),
    [
        ("-5", "-0.05"),
        ("0.000001", "0.00000001"),
        ("1e-7", "0.000000001"),
        ("123456789012.123456789", "1234567890.12123456789"),
        (Decimal("12.5"), "0.125"),
        (7, "0.07"),
    ],
    ids=["negative", "fractional", "exponent", "many digits", "a number", "a whole number"],
)
def test_cents_become_dollars_without_rounding(
    cents: Any, dollars: str, account: Reading, vendor: AnthropicVendor
) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "something", "1")]
    vendor.reshape = rows_reshaped(lambda row: {**row, "amount": cents})
    (row,) = account.items("costs", YESTERDAY)
    assert row.amount == Decimal(dollars)


def test_cost_without_an_amount_is_pending(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "something", "1")]
    vendor.reshape = rows_reshaped(lambda row: {**row, "amount": None})
    (row,) = account.items("costs", YESTERDAY)
    assert row.amount is None


def test_currency_other_than_usd_is_kept(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "something", "150")]
    vendor.reshape = rows_reshaped(lambda row: {**row, "currency": "eur"})
    (row,) = account.items("costs", YESTERDAY)
    assert (row.amount, row.currency) == (Decimal("1.5"), "EUR")


def test_new_kind_of_actor_is_noted(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.claude_code = [claude_code(YESTERDAY.from_ms, "", actor={"type": "robot_actor", "serial": "R2"})]
    normalized = account.normalized("claude-code", YESTERDAY)
    assert normalized.notes == {"unknown kind of actor": 1}
    assert dimensions(normalized.items[1])["actor_type"] == "robot_actor"  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- limits, members and the account


def spend_limit(number: int, **values: Any) -> dict[str, Any]:
    return {
        "actor": {
            "type": "user_actor",
            "user_id": f"user_{number}",
            "email_address": f"person{number}@example.com",
            "name": None,
            "deleted": False,
        },
        "amount": "50000",
        "currency": "USD",
        "period": "monthly",
        "period_to_date_spend": "12050.5",
        "scope": {"type": "user", "user_id": f"user_{number}"},
        "source": {"type": "organization"},
        "spend_limit_id": f"spl_{number}",
        **values,
    }


def test_spend_limits_are_cents_in_decimal_strings(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.rows_a_page = 2
    vendor.spend_limits = [
        spend_limit(1),
        spend_limit(2, amount=None, period_to_date_spend="0"),
        spend_limit(3, currency="EUR"),
    ]
    normalized = account.normalized("limits")
    assert list(normalized.items) == [
        Limit(
            name="spending limit, monthly",
            subject="user_1",
            user="person1@example.com",
            limit_usd=Decimal("500.00"),
            used_usd=Decimal("120.505"),
        ),
        # No limit; and "0" also stands for a spend that could not be read.
        Limit(name="spending limit, monthly", subject="user_2", user="person2@example.com"),
    ]
    assert normalized.rejects == ["a spend limit in another currency than USD"]


def test_organization_that_has_no_spend_limits(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.is_enterprise = False
    with pytest.raises(Denied, match="Enterprise"):
        account.answers("limits")
    assert account.resource("limits").is_optional


def test_members_over_pages(account: Reading, vendor: AnthropicVendor) -> None:
    vendor.rows_a_page = 2
    vendor.users = [
        {
            "id": f"user_{number}",
            "type": "user",
            "email": f"person{number}@example.com",
            "name": f"Person {number}",
            "role": "developer",
            "added_at": "2026-01-01T00:00:00Z",
        }
        for number in range(5)
    ]
    members = account.items("members")
    assert [member.user for member in members] == [f"person{number}@example.com" for number in range(5)]
    assert members[0] == Member(member_id="user_0", user="person0@example.com", name="Person 0", role="developer")


def test_the_account_is_the_organization(account: Reading) -> None:
    assert account.items("account") == [
        Member(member_id="00000000-0000-0000-0000-000000000001", name="Example Organization", role="account")
    ]


def test_probe_tells_whose_key_it_is(account: Reading) -> None:
    (organization,) = account.probe()
    assert organization.name == "Example Organization"


def test_probe_notices_another_organization(vendor: AnthropicVendor, clock: TurnedClock, tmp_path: Path) -> None:
    with (
        reading(ANTHROPIC_ADMIN, vendor, ADMIN_KEY, tmp_path, clock, organization_id="elsewhere") as opened,
        pytest.raises(Misconfigured) as caught,
    ):
        opened.probe()
    assert "00000000" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- authentication


def test_version_header_goes_with_every_request(account: Reading, vendor: AnthropicVendor) -> None:
    account.answers("account")
    account.answers("usage", WEEK)
    assert {received.headers["anthropic-version"] for received in account.server.log} == {"2023-06-01"}
    assert {received.credential for received in account.server.log} == {ADMIN_KEY}


def test_wrong_key_is_unauthorized(vendor: AnthropicVendor, clock: TurnedClock, tmp_path: Path) -> None:
    with (
        reading(ANTHROPIC_ADMIN, vendor, "sk-ant-admin01-other", tmp_path, clock) as opened,
        pytest.raises(Unauthorized),
    ):
        opened.probe()


def test_permission_error_is_denied(account: Reading) -> None:
    error = {"type": "error", "error": {"type": "permission_error", "message": "synthetic"}, "request_id": "req_E"}
    account.server.faults.append(Fault(MESSAGES, Reply(403, error)))
    with pytest.raises(Denied):
        account.answers("usage", WEEK)


def test_overloaded_once_is_tried_again(account: Reading) -> None:
    account.server.faults.append(Fault(MESSAGES, Reply(529, {"type": "error"})))
    account.answers("usage", WEEK)
    assert [received.status for received in account.server.log] == [529, 200]


def test_retry_after_in_seconds_is_waited_for_and_the_same_page_asked_again(
    account: Reading, vendor: AnthropicVendor
) -> None:
    vendor.buckets_a_page = 4
    account.server.faults.append(Fault(MESSAGES, Reply(429, {"type": "error"}, {"Retry-After": "30"}), nth=2))
    began = account.clock.now_ms()
    account.answers("usage", WEEK)
    assert account.clock.now_ms() - began >= 30_000
    first, refused, second = account.server.log
    assert refused.query == second.query != first.query


def test_sustained_rate_is_one_request_a_minute(account: Reading) -> None:
    assert ANTHROPIC_ADMIN.rates["default"] == (60, 3600.0)


@pytest.mark.parametrize(
    ("secret", "headers"),
    [
        ("sk-ant-admin01-EXAMPLE", {"x-api-key": "sk-ant-admin01-EXAMPLE"}),
        ("sk-ant-oat01-EXAMPLE", {"authorization": "Bearer sk-ant-oat01-EXAMPLE"}),
    ],
)
def test_key_and_token_have_headers_of_their_own(secret: str, headers: dict[str, str], account: Reading) -> None:
    assert ANTHROPIC_ADMIN.authorization(secret, account.settings) == {**headers, "anthropic-version": "2023-06-01"}


@pytest.mark.parametrize("secret", ["", "sk-ant-api03-canary", "two words canary", "canary\n"])
def test_what_cannot_be_an_admin_key_is_refused_without_being_quoted(secret: str, account: Reading) -> None:
    with pytest.raises(AccountsUsageError) as caught:
        ANTHROPIC_ADMIN.authorization(secret, account.settings)
    assert "canary" not in str(caught.value)
