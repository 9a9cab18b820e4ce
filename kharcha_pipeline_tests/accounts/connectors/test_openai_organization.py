from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.connectors.openai_organization import (
    COMPLETIONS,
    COST_GROUPING,
    OPENAI_ORGANIZATION,
    OTHER_USAGE,
)
from kharcha_pipeline.accounts.failures import AccountsUsageError, Denied, Drifted, Inconsistent, Unauthorized
from kharcha_pipeline.accounts.items import Limit, Member, ReportRow
from kharcha_pipeline_tests.accounts.connectors.reading import TODAY, WEEK, YESTERDAY, Reading, reading
from kharcha_pipeline_tests.accounts.openai_vendor import ADMIN_KEY, OpenAIVendor, cost, used, user
from kharcha_pipeline_tests.accounts.storing import standing, versions
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply, TurnedClock

USAGE = "/v1/organization/usage/completions"
COSTS = "/v1/organization/costs"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def vendor(clock: TurnedClock) -> OpenAIVendor:
    return OpenAIVendor(clock)


@pytest.fixture
def account(vendor: OpenAIVendor, clock: TurnedClock, tmp_path: Path) -> Iterator[Reading]:
    with reading(OPENAI_ORGANIZATION, vendor, ADMIN_KEY, tmp_path, clock) as opened:
        yield opened


def completion(**values: Any) -> Any:
    return used(YESTERDAY.from_ms + HOUR_MS, **values)


def tokens(row: ReportRow) -> tuple[int | None, ...]:
    return (row.input_tokens, row.cache_read_tokens, row.cache_write_5m_tokens, row.output_tokens)


# ------------------------------------------------------------------------------------------------------- units


def test_time_is_unix_seconds(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [completion(input_tokens=1, output_tokens=1, num_model_requests=1)]
    (row,) = account.items("completions", YESTERDAY)
    assert (row.at_ms, row.until_ms) == YESTERDAY
    (received,) = account.server.log
    assert received.parameters["start_time"] == "1795046400"
    assert received.parameters["end_time"] == "1795132800"


def test_input_includes_cached_and_is_made_disjoint(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [
        completion(
            input_tokens=10_000,
            input_cached_tokens=6_000,
            input_uncached_tokens=3_500,
            input_cache_write_tokens=500,
            output_tokens=1_200,
            num_model_requests=12,
        )
    ]
    normalized = account.normalized("completions", YESTERDAY)
    (row,) = normalized.items
    assert isinstance(row, ReportRow)
    assert tokens(row) == (3_500, 6_000, 500, 1_200)
    assert (row.responses, row.amount, row.quantity, row.model_raw) == (12, None, None, "gpt-example-1")
    assert not normalized.notes


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ({"input_cached_tokens": 60, "input_uncached_tokens": 40}, (40, 60, 0)),
        ({"input_cached_tokens": 60, "input_cache_write_tokens": 10}, (30, 60, 10)),
        ({"input_uncached_tokens": 40, "input_cache_write_tokens": 60}, (40, 0, 60)),
    ],
    ids=["writes are missing", "uncached is missing", "cached is missing"],
)
def test_one_missing_part_of_the_input_is_what_the_others_leave(
    told: dict[str, int], parts: tuple[int, ...], account: Reading, vendor: OpenAIVendor
) -> None:
    vendor.usage["completions"] = [completion(input_tokens=100, output_tokens=5, num_model_requests=1, **told)]
    (row,) = account.items("completions", YESTERDAY)
    assert tokens(row)[:3] == parts
    assert row.quantity is None


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ({}, (None, None, None)),
        ({"input_cached_tokens": 60}, (None, 60, None)),
        ({"input_cached_tokens": 60, "input_uncached_tokens": 50}, (None, None, None)),
        (
            {"input_cached_tokens": 60, "input_uncached_tokens": 30, "input_cache_write_tokens": 5},
            (None, None, None),
        ),
    ],
    ids=["older data", "only cached is told", "more than there is", "less than there is"],
)
def test_missing_split_fields_are_unknown_rather_than_wrong(
    told: dict[str, int], parts: tuple[int | None, ...], account: Reading, vendor: OpenAIVendor
) -> None:
    vendor.usage["completions"] = [completion(input_tokens=100, output_tokens=5, num_model_requests=1, **told)]
    (row,) = account.items("completions", YESTERDAY)
    assert tokens(row) == (*parts, 5)
    assert (row.quantity, row.unit) == (Decimal(100), "input tokens")


def test_parts_that_do_not_add_up_are_noted(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [
        completion(input_tokens=100, input_cached_tokens=101, output_tokens=5, num_model_requests=1)
    ]
    assert account.normalized("completions", YESTERDAY).notes == {"parts of the input do not add up": 1}


def test_costs_are_dollars_as_floats_read_from_their_text(account: Reading, vendor: OpenAIVendor) -> None:
    """0.1 + 0.2 is what a float would make of it; the digits of the text are the amount."""
    vendor.costs = [
        cost(YESTERDAY.from_ms, "gpt-example-1, input", "0.0625"),
        cost(YESTERDAY.from_ms, "gpt-example-1, output", "0.1308043834030732600001"),
    ]
    first, second = account.items("costs", YESTERDAY)
    assert (first.amount, first.currency) == (Decimal("0.0625"), "USD")
    assert second.amount == Decimal("0.1308043834030732600001")
    assert (first.quantity, first.unit) == (Decimal(10_000), "tokens")
    assert dict(first.dimensions) == {
        "api_key_id": "",
        "line_item": "gpt-example-1, input",
        "project_id": "proj_EXAMPLE",
    }
    assert (first.input_tokens, first.model_raw) == (None, "")


def test_spend_limit_is_whole_cents(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.spend_limit_cents = 12_345
    assert account.items("limits") == [Limit(name="hard limit, month", limit_usd=Decimal("123.45"))]


# ----------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize("report", [COMPLETIONS, *OTHER_USAGE], ids=lambda report: report.endpoint)
def test_every_kind_of_usage_is_asked_by_all_of_its_dimensions(report: Any, account: Reading) -> None:
    """Lists are sent with brackets, as OpenAI's own client does; the fake refuses every other form."""
    account.answers(report.endpoint.replace("_", "-"), YESTERDAY)
    (received,) = account.server.log
    assert received.path == f"/v1/organization/usage/{report.endpoint}"
    assert [value for name, value in received.query if name == "group_by[]"] == list(report.grouping)


@pytest.mark.parametrize(
    ("endpoint", "values", "expected"),
    [
        ("embeddings", {"input_tokens": 7, "num_model_requests": 2}, {"input_tokens": 7, "responses": 2}),
        ("moderations", {"input_tokens": 7, "num_model_requests": 2}, {"input_tokens": 7, "responses": 2}),
        (
            "images",
            {"images": 3, "num_model_requests": 2},
            {"quantity": Decimal(3), "unit": "images", "responses": 2},
        ),
        ("audio_speeches", {"characters": 9}, {"quantity": Decimal(9), "unit": "characters"}),
        ("audio_transcriptions", {"seconds": 8}, {"quantity": Decimal(8), "unit": "seconds"}),
        ("vector_stores", {"usage_bytes": 6}, {"quantity": Decimal(6), "unit": "bytes"}),
        ("code_interpreter_sessions", {"num_sessions": 5}, {"quantity": Decimal(5), "unit": "sessions"}),
        ("file_search_calls", {"num_requests": 4}, {"quantity": Decimal(4), "unit": "calls"}),
        (
            "web_search_calls",
            {"num_requests": 4, "num_model_requests": 2},
            {"web_search_requests": 4, "responses": 2},
        ),
    ],
)
def test_other_usage_says_what_it_counts(
    endpoint: str, values: dict[str, Any], expected: dict[str, Any], account: Reading, vendor: OpenAIVendor
) -> None:
    vendor.usage[endpoint] = [completion(**values)]
    normalized = account.normalized(endpoint.replace("_", "-"), YESTERDAY)
    (row,) = normalized.items
    assert isinstance(row, ReportRow)
    assert row.report == endpoint
    assert {name: getattr(row, name) for name in expected} == expected
    assert row.output_tokens is None
    assert not normalized.notes


def test_null_dimensions_are_coalesced(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [
        completion(input_tokens=1, output_tokens=1, num_model_requests=1, batch=batch)
        for batch in (None, True, False)
    ]
    rows = account.items("completions", YESTERDAY)
    assert sorted(dict(row.dimensions)["batch"] for row in rows) == ["", "false", "true"]
    assert {dict(row.dimensions)["user_id"] for row in rows} == {""}
    assert {row.grouping for row in rows} == {",".join(COMPLETIONS.grouping)}


def test_costs_are_not_asked_by_user_which_may_be_refused(account: Reading) -> None:
    account.answers("costs", WEEK)
    assert "user_id" not in COST_GROUPING
    assert [received.status for received in account.server.log] == [200]


def test_today_is_one_bucket_while_it_runs(account: Reading, vendor: OpenAIVendor) -> None:
    """Its end is not now, or the row would be another one at each poll."""
    vendor.usage["completions"] = [used(TODAY + HOUR_MS, input_tokens=1, output_tokens=1, num_model_requests=1)]
    vendor.usage["completions"][0].revisions = [(account.clock.now_ms() + HOUR_MS, "output_tokens", 2)]
    account.poll("completions", Window(TODAY, account.clock.now_ms()))
    account.clock.advance(3600)
    applied = account.poll("completions", Window(TODAY, account.clock.now_ms()))
    assert (applied.inserted, applied.changed, applied.vanished) == (0, 1, 0)
    (row,) = standing(account.store, "report")
    assert isinstance(row, ReportRow)
    assert (row.until_ms, row.output_tokens) == (TODAY + DAY_MS, 2)


def test_bucket_cut_at_now_is_the_day(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [used(TODAY, input_tokens=1, output_tokens=1, num_model_requests=1)]

    def cut(path: str, content: Any) -> Any:
        content["data"][0]["end_time"] = account.clock.now_ms() // 1000
        return content

    vendor.reshape = cut
    (row,) = account.items("completions", Window(TODAY, account.clock.now_ms()))
    assert row.until_ms == TODAY + DAY_MS


# -------------------------------------------------------------------------------------------------- pagination


def week_of_completions() -> list[Any]:
    return [
        used(TODAY - day * DAY_MS, input_tokens=0, output_tokens=day, num_model_requests=1) for day in range(1, 8)
    ]


@pytest.mark.parametrize("size", [1, 2, 7, 31])
def test_pages_of_any_size_hold_every_row(size: int, account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = week_of_completions()
    vendor.buckets_a_page = size
    assert sorted(row.output_tokens for row in account.items("completions", WEEK)) == list(range(1, 8))
    assert len(account.server.log) == -(-7 // size)
    assert len({tuple(pair for pair in one.query if pair[0] != "page") for one in account.server.log}) == 1


def test_same_page_returned_for_ever(account: Reading) -> None:
    again = {"object": "page", "data": [], "has_more": True, "next_page": "again"}
    account.server.answer = lambda received: Reply(200, again)
    with pytest.raises(Inconsistent, match="in a circle"):
        account.answers("completions", WEEK)
    assert len(account.server.log) == 2


def test_page_cursor_expired_restarts_from_page_one_at_most_twice(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.buckets_a_page = 3
    vendor.cursors.lifetime_ms = 0
    with pytest.raises(Inconsistent, match="in 3 attempts"):
        account.answers("completions", WEEK)
    vendor.cursors.lifetime_ms = MINUTE_MS
    assert len(account.answers("completions", WEEK)) == 3


def test_nothing_is_read_by_halves_when_a_page_fails(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = week_of_completions()
    vendor.buckets_a_page = 3
    account.server.faults.append(Fault(USAGE, Reply(401, {"error": {}}), nth=2, sticky=True))
    with pytest.raises(Unauthorized):
        account.poll("completions", WEEK)
    assert not standing(account.store, "report")


# ---------------------------------------------------------------------------------------------------- revision


def test_same_answer_twice_changes_nothing(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.costs = [cost(TODAY - day * DAY_MS, "gpt-example-1, input", f"0.{day}") for day in range(1, 8)]
    first = account.poll("costs", WEEK)
    account.clock.advance(3600)
    again = account.poll("costs", WEEK)
    assert (first.inserted, again.inserted, again.changed, again.vanished) == (7, 0, 0, 0)


def test_bucket_is_replaced_as_a_whole(account: Reading, vendor: OpenAIVendor) -> None:
    later = account.clock.now_ms() + HOUR_MS
    vendor.costs = [
        cost(YESTERDAY.from_ms, "gpt-example-1, input", "1.5"),
        cost(YESTERDAY.from_ms, "gpt-example-1, output", "2.5"),
    ]
    vendor.costs[0].revisions = [
        (later, "line_item", "gpt-example-1, cached input"),
        (later, "value", Decimal("0.5")),
    ]
    account.poll("costs", YESTERDAY)
    account.clock.advance(3600)
    applied = account.poll("costs", YESTERDAY)
    assert (applied.inserted, applied.vanished) == (1, 1)
    amounts = sorted(
        row.amount for row in standing(account.store, "report") if isinstance(row, ReportRow) and row.amount
    )
    assert amounts == [Decimal("0.5"), Decimal("2.5")]


def test_value_that_goes_and_comes_back_is_two_changes(account: Reading, vendor: OpenAIVendor) -> None:
    now_ms = account.clock.now_ms()
    vendor.costs = [cost(YESTERDAY.from_ms, "gpt-example-1, input", "1.5")]
    vendor.costs[0].revisions = [
        (now_ms + HOUR_MS, "value", Decimal("1.75")),
        (now_ms + 2 * HOUR_MS, "value", Decimal("1.5")),
    ]
    changes = []
    for _ in range(3):
        changes.append(account.poll("costs", YESTERDAY).changed)
        account.clock.advance(3600)
    assert changes == [0, 1, 1]
    assert len(versions(account.store, "report")) == 3


# ------------------------------------------------------------------------------------------------ schema drift


def rows_reshaped(change: Any) -> Any:
    def reshape(path: str, content: Any) -> Any:
        for bucket in content["data"]:
            bucket["results"] = [change(row) for row in bucket["results"]]
        return content

    return reshape


def test_new_field_is_ignored_and_reported(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [completion(input_tokens=0, output_tokens=1, num_model_requests=1)]
    vendor.reshape = rows_reshaped(lambda row: {**row, "reasoning_effort": "high"})
    assert account.normalized("completions", YESTERDAY).notes == {'new field "reasoning_effort"': 1}


@pytest.mark.parametrize("value", ["0.0625", Decimal("6.25e-2"), Decimal("0.06250")])
def test_amount_as_string_or_with_an_exponent_is_exact(value: Any, account: Reading, vendor: OpenAIVendor) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "x", "1")]
    vendor.reshape = rows_reshaped(lambda row: {**row, "amount": {"value": value, "currency": "usd"}})
    assert account.items("costs", YESTERDAY)[0].amount == Decimal("0.0625")


@pytest.mark.parametrize("amount", [None, {"value": None, "currency": "usd"}, {"value": "n/a", "currency": "usd"}])
def test_missing_amount_is_pending_and_not_zero(amount: Any, account: Reading, vendor: OpenAIVendor) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "x", "1")]
    vendor.reshape = rows_reshaped(lambda row: {**row, "amount": amount})
    (row,) = account.items("costs", YESTERDAY)
    assert row.amount is None


def test_negative_amount_and_other_currency_are_kept(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.costs = [cost(YESTERDAY.from_ms, "credit", "-3.5", currency="eur")]
    (row,) = account.items("costs", YESTERDAY)
    assert (row.amount, row.currency) == (Decimal("-3.5"), "EUR")


@pytest.mark.parametrize(
    "reshape",
    [
        lambda path, content: {**content, "data": {"0": content["data"][0]}},
        lambda path, content: {"object": "page", "buckets": content["data"], "has_more": False},
        lambda path, content: {**content, "has_more": "perhaps"},
        rows_reshaped(lambda row: {name: value for name, value in row.items() if name != "input_tokens"}),
        rows_reshaped(lambda row: "PRIVATE"),
    ],
    ids=["array became an object", "renamed", "no end", "required field renamed", "row became text"],
)
def test_changed_shape_rejects_the_window(reshape: Any, account: Reading, vendor: OpenAIVendor) -> None:
    vendor.usage["completions"] = [completion(input_tokens=0, output_tokens=1, num_model_requests=1)]
    vendor.reshape = reshape
    with pytest.raises(Drifted) as caught:
        account.poll("completions", YESTERDAY)
    assert "PRIVATE" not in f"{caught.value} {caught.value.sample}"
    assert not standing(account.store, "report")


def test_milliseconds_instead_of_seconds_reject_the_window(account: Reading, vendor: OpenAIVendor) -> None:
    def reshape(path: str, content: Any) -> Any:
        for bucket in content["data"]:
            bucket["start_time"] *= 1000
        return content

    vendor.reshape = reshape
    with pytest.raises(Drifted):
        account.normalized("completions", YESTERDAY)


# --------------------------------------------------------------------------------------- members and credentials


def test_members_over_pages(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.users = [user(number) for number in range(5)]
    vendor.rows_a_page = 2
    members = account.items("members")
    assert members[0] == Member(member_id="user-0", user="person0@example.com", name="Person 0", role="reader")
    assert [member.member_id for member in members] == [f"user-{number}" for number in range(5)]


def test_integer_id_is_compared_as_text(account: Reading, vendor: OpenAIVendor) -> None:
    vendor.users = [{**user(0), "id": 17}]
    assert account.items("members")[0].member_id == "17"


def test_organization_without_a_spend_limit(account: Reading) -> None:
    with pytest.raises(Denied, match="spend limit"):
        account.answers("limits")
    assert account.resource("limits").is_optional


def test_missing_scope_is_denied(account: Reading) -> None:
    error = {"message": "synthetic", "type": "invalid_request_error", "param": None, "code": "missing_scope"}
    account.server.faults.append(Fault(COSTS, Reply(403, {"error": error})))
    with pytest.raises(Denied):
        account.answers("costs", WEEK)


def test_probe_asks_one_bucket_of_costs(account: Reading) -> None:
    assert account.probe() == ()
    (received,) = account.server.log
    assert (received.path, received.parameters) == (COSTS, {"start_time": str(TODAY // 1000), "limit": "1"})


def test_wrong_key_is_unauthorized(vendor: OpenAIVendor, clock: TurnedClock, tmp_path: Path) -> None:
    with (
        reading(OPENAI_ORGANIZATION, vendor, "sk-admin-other", tmp_path, clock) as opened,
        pytest.raises(Unauthorized),
    ):
        opened.probe()


@pytest.mark.parametrize("secret", ["", "sk-proj-canary", "sk-svcacct-canary", "canary canary", "canary\n", "kanarí"])
def test_what_cannot_be_an_admin_key_is_refused_without_being_quoted(secret: str, account: Reading) -> None:
    with pytest.raises(AccountsUsageError) as caught:
        OPENAI_ORGANIZATION.authorization(secret, account.settings)
    assert "canar" not in str(caught.value)
