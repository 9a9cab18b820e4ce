"""Whatever a vendor answers: an item, a note, a reject or `Drifted`, and every digit of an amount."""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Connector, Normalized, Resource, Window
from kharcha_pipeline.accounts.connectors.anthropic_admin import ANTHROPIC_ADMIN
from kharcha_pipeline.accounts.connectors.github_copilot import GITHUB_COPILOT
from kharcha_pipeline.accounts.connectors.openai_organization import OPENAI_ORGANIZATION, OTHER_USAGE
from kharcha_pipeline.accounts.connectors.openrouter import OPENROUTER
from kharcha_pipeline.accounts.connectors.registry import CONNECTORS
from kharcha_pipeline.accounts.failures import Drifted
from kharcha_pipeline.accounts.items import ReportRow, VendorItem, instant_of, kind_of
from kharcha_pipeline_tests.accounts import anthropic_vendor, github_vendor, openai_vendor, openrouter_vendor
from kharcha_pipeline_tests.accounts.connectors.reading import TODAY, reading
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock
from kharcha_pipeline_tests.write_docs import DOCS

PRIVATE = "canary@example.com"
"""A value that stands in every answer, and in no message, sample or note."""

DAY = Window(TODAY - DAY_MS, TODAY)
NOVEMBER = Window(TODAY - 19 * DAY_MS, TODAY)


class Read(NamedTuple):
    """What was read of one resource, to be changed at random."""

    connector: Connector
    settings: Any
    resource: Resource
    window: Window
    answers: Sequence[Answer]

    def understood(self, answers: Sequence[Answer]) -> Normalized:
        """What the answers say."""
        return self.connector.normalize(self.settings, self.resource, self.window, answers)


def anthropic(clock: TurnedClock) -> Callable[[Received], Reply]:
    vendor = anthropic_vendor.AnthropicVendor(clock, rows_a_page=1)
    vendor.messages = [
        anthropic_vendor.used(DAY.from_ms, model=model, account_id=PRIVATE, output_tokens=3) for model in ("a", "b")
    ]
    vendor.costs = [anthropic_vendor.cost(DAY.from_ms, PRIVATE, "123.45")]
    vendor.claude_code = [anthropic_vendor.claude_code(DAY.from_ms, name) for name in (PRIVATE, "b@example.com")]
    vendor.users = [{"id": PRIVATE, "type": "user", "email": PRIVATE, "name": "", "role": "user", "added_at": ""}]
    vendor.spend_limits = [
        {
            "actor": {"type": "user_actor", "user_id": "user_1", "email_address": PRIVATE, "deleted": False},
            "amount": "50000",
            "currency": "USD",
            "period": "monthly",
            "period_to_date_spend": "12050.5",
            "spend_limit_id": "spl_1",
        }
    ]
    vendor.organization["name"] = PRIVATE
    return vendor


def openai(clock: TurnedClock) -> Callable[[Received], Reply]:
    vendor = openai_vendor.OpenAIVendor(clock, spend_limit_cents=5)
    counts = {"input_tokens": 9, "input_cached_tokens": 4, "output_tokens": 5, "num_model_requests": 1}
    vendor.usage["completions"] = [openai_vendor.used(DAY.from_ms, user_id=PRIVATE, **counts)]
    for report in OTHER_USAGE:
        counted = {
            name: 7 for name in (report.counted[0], "input_tokens", "num_model_requests", "num_requests") if name
        }
        vendor.usage[report.endpoint] = [openai_vendor.used(DAY.from_ms, user_id=PRIVATE, **counted)]
    vendor.costs = [openai_vendor.cost(DAY.from_ms, PRIVATE, "0.0625")]
    vendor.users = [{**openai_vendor.user(1), "email": PRIVATE}]
    return vendor


def github(clock: TurnedClock) -> Callable[[Received], Reply]:
    vendor = github_vendor.GitHubVendor(clock)
    vendor.credits = [github_vendor.credits_used(DAY.from_ms, model=PRIVATE), github_vendor.credits_used(DAY.from_ms)]
    vendor.requests = [github_vendor.requests_used(DAY.from_ms, model=PRIVATE)]
    vendor.budgets = [github_vendor.budget(1, 30, user=PRIVATE)]
    vendor.seats = [github_vendor.seat(1, PRIVATE)]
    return vendor


def openrouter(clock: TurnedClock) -> Callable[[Received], Reply]:
    vendor = openrouter_vendor.OpenRouterVendor(clock)
    vendor.activity = [
        openrouter_vendor.used(DAY.from_ms, model=PRIVATE, byok_usage_inference=Decimal("0.5")),
        openrouter_vendor.used(DAY.from_ms + HOUR_MS, provider_name="Another"),
    ]
    return vendor


VENDORS: list[tuple[Connector, Callable[[TurnedClock], Callable[[Received], Reply]], str, dict[str, Any]]] = [
    (ANTHROPIC_ADMIN, anthropic, anthropic_vendor.ADMIN_KEY, {}),
    (OPENAI_ORGANIZATION, openai, openai_vendor.ADMIN_KEY, {}),
    (GITHUB_COPILOT, github, github_vendor.TOKEN, {"login": "octo-example"}),
    (OPENROUTER, openrouter, openrouter_vendor.MANAGEMENT_KEY, {}),
]
IN_TURN = [connector for connector, _, _, _ in VENDORS]
every_vendor = pytest.mark.parametrize("connector", IN_TURN, ids=lambda connector: connector.name)


@cache
def everything_of(name: str) -> list[Read]:
    """All resources of one vendor, read once."""
    (found,) = [row for row in VENDORS if row[0].name == name]
    connector, vendor, secret, table = found
    clock = TurnedClock()
    with (
        tempfile.TemporaryDirectory() as directory,
        reading(connector, vendor(clock), secret, Path(directory), clock, **table) as account,
    ):
        reads = []
        for resource in connector.resources(account.settings):
            window = SNAPSHOT if resource.span is None else NOVEMBER if resource.alignment == "month" else DAY
            answers = account.answers(resource.name, window)
            reads.append(Read(connector, account.settings, resource, window, answers))
        return reads


# ----------------------------------------------------------------------------------------------- as it comes


@every_vendor
def test_everything_that_can_be_asked_is_understood_without_a_note(connector: Connector) -> None:
    for read in everything_of(connector.name):
        normalized = read.understood(read.answers)
        assert normalized.items, read.resource.name
        assert not normalized.notes, read.resource.name
        assert not normalized.rejects, read.resource.name
        assert {kind_of(item) for item in normalized.items} == {read.resource.kind}


@every_vendor
def test_answers_kept_as_raw_are_understood_again_in_the_same_way(connector: Connector) -> None:
    for read in everything_of(connector.name):
        kept = [msgspec.json.decode(msgspec.json.encode(answer), type=Answer) for answer in read.answers]
        assert read.understood(kept) == read.understood(read.answers)


@every_vendor
def test_a_connector_says_what_the_interface_asks_for(connector: Connector) -> None:
    assert connector in CONNECTORS
    assert connector.base_url.startswith("https://")
    assert not connector.base_url.endswith("/")
    assert "default" in connector.rates
    assert len(connector.schedule.split()) == 5
    assert connector.is_counted is False  # agents' logs may show the same calls
    assert connector.local_sources
    assert connector.expires_ms("whatever") is None
    resources = [read.resource for read in everything_of(connector.name)]
    assert len({resource.name for resource in resources}) == len(resources)


@every_vendor
def test_requests_are_stored_as_they_are_and_hold_no_credential(connector: Connector) -> None:
    secret = next(secret for known, _, secret, _ in VENDORS if known is connector)
    for read in everything_of(connector.name):
        for answer in read.answers:
            assert secret.encode() not in msgspec.json.encode(answer)


@every_vendor
def test_everything_is_stored_twice_as_once_and_without_the_credential(connector: Connector, tmp_path: Path) -> None:
    (found,) = [row for row in VENDORS if row[0] is connector]
    _, vendor, secret, table = found
    clock = TurnedClock()
    with reading(connector, vendor(clock), secret, tmp_path, clock, **table) as account:
        for is_again in (False, True):
            for read in everything_of(connector.name):
                applied = account.poll(read.resource.name, read.window)
                assert bool(applied.inserted) is not is_again, read.resource.name
                assert not (applied.changed or applied.vanished or applied.held), read.resource.name
            clock.advance(3600)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()


@every_vendor
def test_the_page_names_what_is_read_and_its_example_is_understood(connector: Connector) -> None:
    page = (DOCS / "accounts" / f"{connector.name}.md").read_text("utf-8")
    for read in everything_of(connector.name):
        assert f"`{read.resource.name}`" in page
        for item in read.understood(read.answers).items:
            if isinstance(item, ReportRow):
                assert item.report in page or item.report.replace("_", "-") in page, item.report
    assert f"`{connector.schedule}`" in page
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (table,) = tomllib.loads(example)["accounts"].values()
    assert msgspec.convert(table, connector.settings_type).secret.startswith("env:")
    assert table["connector"] == connector.name


# ------------------------------------------------------------------------------------------- changed at random

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["", "-1", "1e9999", "2026-11-19", "2026-11-19T00:00:00Z", 10**400, -1, 2**63, "\ud800", "\x00"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a document."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None], whole: Any) -> Any:
    """The document with one value changed in place."""
    if not path:
        return whole
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    change(holder, path[-1])
    return value


def encoded(value: Any) -> bytes:
    """JSON with exact decimals, and whatever strings: the encoder of a careless vendor."""

    def text(inner: Any) -> str:
        if isinstance(inner, dict):
            return "{" + ",".join(f"{json.dumps(name)}:{text(each)}" for name, each in inner.items()) + "}"
        if isinstance(inner, list):
            return "[" + ",".join(map(text, inner)) + "]"
        return str(inner) if isinstance(inner, Decimal) else json.dumps(inner)

    return text(value).encode()


@st.composite
def spoiled(draw: st.DrawFn, name: str) -> tuple[Read, list[Answer]]:
    """The answers of a resource with up to three changes in one of them."""
    read = draw(st.sampled_from(everything_of(name)))
    number = draw(st.integers(0, len(read.answers) - 1))
    document = json.loads(read.answers[number].body, parse_float=Decimal)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(document), key=str)))
        other = draw(json_values)

        def put(holder: Any, step: Any, other: Any = other) -> None:
            holder[step] = other

        def take(holder: Any, step: Any) -> None:
            del holder[step]

        def twice(holder: Any, step: Any) -> None:
            if isinstance(holder, list):
                holder.append(holder[step])
            else:
                holder[f"{step}_new"] = holder[step]

        document = changed(document, path, draw(st.sampled_from([put, take, twice])), other)
    answers = list(read.answers)
    answers[number] = replace(answers[number], body=encoded(document))
    return read, answers


def assert_total(read: Read, answers: Sequence[Answer]) -> None:
    """`normalize` gives items that can be stored, or says that the shape has changed, and the same again."""
    try:
        normalized = read.understood(answers)
    except Drifted as drift:
        assert PRIVATE not in f"{drift} {drift.sample}"
        with pytest.raises(Drifted):
            read.understood(answers)
        return
    assert read.understood(answers) == normalized
    assert PRIVATE not in f"{dict(normalized.notes)} {list(normalized.rejects)}"
    for item in normalized.items:
        assert msgspec.json.decode(msgspec.json.encode(item), type=VendorItem) == item
        msgspec.json.encode(item).decode("utf-8")
        assert not any(isinstance(value, float) for value in asdict(item).values())
        if read.window != SNAPSHOT:
            assert read.window.from_ms <= instant_of(item) < read.window.until_ms


@every_vendor
def test_any_change_of_an_answer_gives_items_notes_or_a_drift(connector: Connector) -> None:
    @settings(max_examples=120, deadline=None)
    @given(spoiled(connector.name))
    def total(case: tuple[Read, list[Answer]]) -> None:
        assert_total(*case)

    total()


@every_vendor
def test_any_bytes_are_no_report(connector: Connector) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.sampled_from(everything_of(connector.name)), st.binary(max_size=40))
    def total(read: Read, body: bytes) -> None:
        assert_total(read, [replace(read.answers[0], body=body), *read.answers[1:]])

    total()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b'{"data": NaN}', b'{"data": [], "data": []}', b"<html>", b"[" * 100_000],
    ids=["empty", "list", "null", "object", "NaN", "duplicate keys", "page", "nested"],
)
@every_vendor
def test_what_is_no_document_of_a_vendor_is_a_drift(connector: Connector, body: bytes) -> None:
    for read in everything_of(connector.name):
        with pytest.raises(Drifted):
            read.understood([replace(read.answers[0], body=body)])


@every_vendor
def test_byte_order_mark_is_passed_over(connector: Connector) -> None:
    for read in everything_of(connector.name):
        marked = [replace(answer, body=b"\xef\xbb\xbf" + answer.body) for answer in read.answers]
        assert read.understood(marked) == read.understood(read.answers)


# -------------------------------------------------------------------------------------------------- exact money

amounts = st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, allow_infinity=False).filter(
    lambda amount: int(amount.as_tuple().exponent) >= -30
)


def told(connector: Connector, resource: str, place: Callable[[Any], tuple[Any, str]], value: Any) -> Any:
    """The first item when one value of the first answer is another one."""
    read = next(read for read in everything_of(connector.name) if read.resource.name == resource)
    document = json.loads(read.answers[0].body, parse_float=Decimal)
    holder, name = place(document)
    holder[name] = value
    answer = replace(read.answers[0], body=encoded(document))
    return read.understood([answer, *read.answers[1:]]).items


@given(amounts, st.booleans())
def test_anthropics_costs_are_a_hundredth_of_the_cents_to_the_last_digit(cents: Decimal, is_text: bool) -> None:
    value = str(cents) if is_text else cents
    (row,) = told(ANTHROPIC_ADMIN, "costs", lambda page: (page["data"][0]["results"][0], "amount"), value)
    assert Fraction(row.amount) * 100 == Fraction(cents)


@given(amounts)
def test_claude_codes_estimates_are_a_hundredth_of_the_cents_to_the_last_digit(cents: Decimal) -> None:
    def place(page: Any) -> tuple[Any, str]:
        return page["data"][0]["model_breakdown"][0]["estimated_cost"], "amount"

    rows = told(ANTHROPIC_ADMIN, "claude-code", place, cents)
    assert Fraction(rows[1].amount) * 100 == Fraction(cents)


@given(amounts)
def test_openais_costs_are_the_dollars_to_the_last_digit(dollars: Decimal) -> None:
    def place(page: Any) -> tuple[Any, str]:
        return page["data"][0]["results"][0]["amount"], "value"

    (row,) = told(OPENAI_ORGANIZATION, "costs", place, dollars)
    assert row.amount == dollars


@given(amounts)
def test_githubs_amounts_are_the_dollars_to_the_last_digit(dollars: Decimal) -> None:
    rows = told(GITHUB_COPILOT, "ai-credits", lambda page: (page["usageItems"][0], "netAmount"), dollars)
    assert rows[0].amount == dollars


@given(amounts)
def test_openrouters_usage_is_the_dollars_to_the_last_digit(dollars: Decimal) -> None:
    rows = told(OPENROUTER, "activity", lambda page: (page["data"][0], "usage"), dollars)
    assert rows[0].amount == dollars


@given(st.lists(amounts, min_size=2, max_size=2))
def test_sums_of_a_month_are_exact(dollars: list[Decimal]) -> None:
    read = next(read for read in everything_of(GITHUB_COPILOT.name) if read.resource.name == "periods")
    document = json.loads(read.answers[0].body, parse_float=Decimal)
    for item, amount in zip(document["usageItems"], dollars, strict=True):
        item["netAmount"] = amount
    answers = [replace(read.answers[0], body=encoded(document)), *read.answers[1:]]
    (period,) = read.understood(answers).items
    assert Fraction(period.on_demand_usd) == sum(map(Fraction, dollars))  # type: ignore[union-attr, arg-type]
