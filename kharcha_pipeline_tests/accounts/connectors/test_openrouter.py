from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.connectors.openrouter import OPENROUTER
from kharcha_pipeline.accounts.failures import AccountsUsageError, Denied, Drifted, Unauthorized
from kharcha_pipeline.accounts.items import Limit, ReportRow
from kharcha_pipeline_tests.accounts.connectors.reading import TODAY, WEEK, YESTERDAY, Reading, reading
from kharcha_pipeline_tests.accounts.openrouter_vendor import MANAGEMENT_KEY, NORMAL_KEY, OpenRouterVendor, used
from kharcha_pipeline_tests.accounts.storing import standing
from kharcha_pipeline_tests.accounts.vendor_server import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def vendor(clock: TurnedClock) -> OpenRouterVendor:
    return OpenRouterVendor(clock)


@pytest.fixture
def account(vendor: OpenRouterVendor, clock: TurnedClock, tmp_path: Path) -> Iterator[Reading]:
    with reading(OPENROUTER, vendor, MANAGEMENT_KEY, tmp_path, clock) as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------- units


def test_activity_is_dollars_by_utc_day(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms + HOUR_MS)]
    normalized = account.normalized("activity", YESTERDAY)
    assert list(normalized.items) == [
        ReportRow(
            report="activity",
            grouping="endpoint_id,model_permaslug,provider_name",
            at_ms=YESTERDAY.from_ms,
            until_ms=YESTERDAY.until_ms,
            dimensions=(
                ("endpoint_id", "11111111-1111-1111-1111-111111111111"),
                ("model_permaslug", "vendor/example-large-2026-10-01"),
                ("provider_name", "ExampleProvider"),
            ),
            model_raw="vendor/example-large",
            responses=9,
            input_tokens=52_000,
            output_tokens=4_100,
            reasoning_tokens=900,
            amount=Decimal("0.125"),
        )
    ]
    assert not normalized.notes
    (received,) = account.server.log
    assert received.query == [("date", "2026-11-19")]


def test_reasoning_is_a_part_of_completion(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms, completion_tokens=100, reasoning_tokens=90)]
    (row,) = account.items("activity", YESTERDAY)
    assert (row.output_tokens, row.reasoning_tokens) == (100, 90)


def test_dollars_are_read_from_their_text(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms, "0.000000123456789012345678901")]
    assert account.items("activity", YESTERDAY)[0].amount == Decimal("0.000000123456789012345678901")


def test_what_own_keys_cost_elsewhere_is_no_amount_of_this_vendor(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms, "0.005", byok_usage_inference=Decimal("0.1"))]
    row, elsewhere = account.items("activity", YESTERDAY)
    assert row.amount == Decimal("0.005")
    assert (elsewhere.report, elsewhere.quantity, elsewhere.unit, elsewhere.amount) == (
        "activity_own_keys",
        Decimal("0.1"),
        "USD",
        None,
    )


def test_credits_are_dollars(account: Reading) -> None:
    assert account.items("credits") == [Limit(name="credits", limit_usd=Decimal("50.0"), used_usd=Decimal("12.375"))]


def test_limit_of_the_key(account: Reading, vendor: OpenRouterVendor) -> None:
    (limit,) = account.items("key")
    assert limit == Limit(name="key limit, monthly", limit_usd=Decimal(20), used_usd=Decimal("12.375"))


def test_key_without_a_limit(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.limit = vendor.remaining = vendor.limit_reset = None
    assert account.items("key") == [Limit(name="key limit")]


def test_label_of_the_key_is_in_no_item(account: Reading) -> None:
    """It shows the beginning and the end of the key."""
    normalized = account.normalized("key")
    assert "sk-or" not in repr(normalized)


# ----------------------------------------------------------------------------------------------- which days


def test_running_day_is_not_asked_for(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(TODAY)]
    normalized = account.normalized("activity", Window(TODAY, account.clock.now_ms()))
    assert not normalized.items
    assert not account.server.log


def test_days_older_than_thirty_are_not_asked_for(account: Reading) -> None:
    account.answers("activity", Window(TODAY - 40 * DAY_MS, TODAY))
    asked = [received.parameters["date"] for received in account.server.log]
    assert (len(asked), asked[0], asked[-1]) == (30, "2026-10-21", "2026-11-19")


def test_day_that_is_no_longer_told_does_not_vanish(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms)]
    account.poll("activity", YESTERDAY)
    account.clock.advance(31 * 86_400)
    applied = account.poll("activity", YESTERDAY)
    assert applied.vanished == 0
    assert len(standing(account.store, "report")) == 1


def test_nothing_is_planned_that_the_vendor_does_not_tell(account: Reading) -> None:
    activity = account.resource("activity")
    assert activity.retention == timedelta(days=31)  # counted from now, within a day that is not told
    assert activity.lag == timedelta(days=1)  # so that the newest window ends in the last complete day


# ---------------------------------------------------------------------------------------- revision and identity


def test_same_answer_twice_changes_nothing(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(TODAY - day * DAY_MS) for day in range(1, 8)]
    first = account.poll("activity", WEEK)
    account.clock.advance(3600)
    again = account.poll("activity", WEEK)
    assert (first.inserted, again.inserted, again.changed, again.vanished) == (7, 0, 0, 0)


def test_bucket_is_replaced_as_a_whole(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms), used(YESTERDAY.from_ms, provider_name="Another")]
    vendor.activity[0].revisions = [(account.clock.now_ms() + HOUR_MS, "provider_name", "Third")]
    account.poll("activity", YESTERDAY)
    account.clock.advance(3600)
    applied = account.poll("activity", YESTERDAY)
    assert (applied.inserted, applied.vanished, applied.unchanged) == (1, 1, 1)


def test_model_renamed_for_display_stays_the_same_row(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms)]
    vendor.activity[0].revisions = [(account.clock.now_ms() + HOUR_MS, "model", "vendor/example-huge")]
    account.poll("activity", YESTERDAY)
    account.clock.advance(3600)
    applied = account.poll("activity", YESTERDAY)
    assert (applied.inserted, applied.changed, applied.vanished) == (0, 1, 0)


def test_one_model_at_two_providers_is_two_rows(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms), used(YESTERDAY.from_ms, provider_name="Another")]
    rows = account.items("activity", YESTERDAY)
    assert len({row.group for row in rows}) == 2


# ---------------------------------------------------------------------------------------------- schema drift


def rows_reshaped(change: Any) -> Any:
    return lambda path, content: {"data": [change(row) for row in content["data"]]}


def test_new_field_is_ignored_and_reported(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms)]
    vendor.reshape = rows_reshaped(lambda row: {**row, "cached_tokens": 5})
    assert account.normalized("activity", YESTERDAY).notes == {'new field "cached_tokens"': 1}


def test_null_dimensions_are_coalesced(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms, endpoint_id=None)]
    (row,) = account.items("activity", YESTERDAY)
    assert dict(row.dimensions)["endpoint_id"] == ""


@pytest.mark.parametrize(
    "reshape",
    [
        lambda path, content: content["data"],
        lambda path, content: {"data": None},
        lambda path, content: {"error": {"code": 500, "message": "PRIVATE"}},
        rows_reshaped(lambda row: {name: value for name, value in row.items() if name != "usage"}),
        rows_reshaped(lambda row: {**row, "date": 1_795_132_800}),
        rows_reshaped(lambda row: {**row, "date": "19.11.2026"}),
    ],
    ids=["object became a list", "null", "an error with 200", "required field renamed", "seconds", "another form"],
)
def test_changed_shape_rejects_the_window(reshape: Any, account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms)]
    vendor.reshape = reshape
    with pytest.raises(Drifted) as caught:
        account.normalized("activity", YESTERDAY)
    assert "PRIVATE" not in f"{caught.value} {caught.value.sample}"


def test_another_day_than_was_asked_for_is_dropped_and_counted(account: Reading, vendor: OpenRouterVendor) -> None:
    vendor.activity = [used(YESTERDAY.from_ms)]
    vendor.reshape = rows_reshaped(lambda row: {**row, "date": "2026-11-18"})
    normalized = account.normalized("activity", YESTERDAY)
    assert not normalized.items
    assert normalized.notes == {"outside the window": 1}


# ---------------------------------------------------------------------------------------------- credentials


def test_normal_key_may_ask_about_itself_only(vendor: OpenRouterVendor, clock: TurnedClock, tmp_path: Path) -> None:
    with reading(OPENROUTER, vendor, NORMAL_KEY, tmp_path, clock) as opened:
        assert opened.probe() == ()
        assert opened.items("key")
        for resource, window in (("activity", YESTERDAY), ("credits", Window(0, 0))):
            with pytest.raises(Denied):
                opened.answers(resource, window)


def test_wrong_key_is_unauthorized(vendor: OpenRouterVendor, clock: TurnedClock, tmp_path: Path) -> None:
    with reading(OPENROUTER, vendor, "sk-or-v1-other", tmp_path, clock) as opened, pytest.raises(Unauthorized):
        opened.probe()


@pytest.mark.parametrize("secret", ["", "canary canary", "canary\n"])
def test_what_cannot_be_a_key_is_refused_without_being_quoted(secret: str, account: Reading) -> None:
    with pytest.raises(AccountsUsageError) as caught:
        OPENROUTER.authorization(secret, account.settings)
    assert "canary" not in str(caught.value)
