"""Price files: what is allowed, and that every slip is an error that names its place."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline.pricing.price_book import PriceFileError, parsed, read_corrections, read_overrides
from kharcha_pipeline.pricing.rates import HIGHEST_RATE

GOOD = """
schema = 1
[[price]]
provider = "openai"
model = "gpt-5"
effective_from = 2025-08-07
effective_to = 2026-01-01
input = "1.25"
output = 10
cache_read = 0.125
cache_write_5m = "1.5"
cache_write_1h = "2"
web_search_per_k = "10"
source = "a contract"
note = "a note"

[[price]]
provider = "openai"
model = "gpt-5"
effective_from = 2025-08-07
variant = "priority"
prompt_over = 200000
input = "2.5"
output = "20"

[[price]]
provider = "local"
model = "qwen3-coder-30b"
effective_from = 2025-01-01
free = true

[[alias]]
match = "codex-auto-review"
provider = "openai"
model = "gpt-5.4"
"""


def test_a_good_file_keeps_every_number_exactly(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(GOOD, encoding="utf-8")
    book = read_overrides(path)
    first, second = book.rows["openai", "gpt-5"]
    assert first.rates == {
        "input": Decimal("1.25"),
        "output": Decimal(10),
        "cache_read": Decimal("0.125"),
        "cache_write_5m": Decimal("1.5"),
        "cache_write_1h": Decimal(2),
    }
    assert all(type(rate) is Decimal for rate in first.rates.values())
    assert (second.variant, second.prompt_over) == ("priority", 200000)
    assert book.rows["local", "qwen3-coder-30b"][0].free
    assert book.prices("openai", "gpt-5", date(2025, 12, 31))
    assert not book.prices("openai", "gpt-5", date(2026, 1, 1))
    assert book.aliases[0].match == "codex-auto-review"


def test_without_a_file_there_are_no_prices() -> None:
    assert not read_overrides(None).rows


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match="cannot be read"):
        read_overrides(tmp_path / "nowhere.toml")


def test_models_are_written_in_any_spelling() -> None:
    text = '[[price]]\nprovider="Anthropic"\nmodel="claude-opus-4.5"\neffective_from=2026-01-01\ninput=1\noutput=2'
    assert ("anthropic", "claude-opus-4-5") in parsed(text.encode(), "f", shipped=False).rows


ROW = '[[price]]\nprovider = "openai"\nmodel = "m"\neffective_from = 2026-01-01\n'
PRICED = ROW + 'input = "1"\noutput = "2"\n'


PREMIUM = """
[[premium]]
provider = "openai"
model = "m"
effective_from = 2026-01-01
premium_multiplier = 3
"""


def test_premium_requests_are_stated_by_day_and_price_nothing() -> None:
    later = PREMIUM.replace("2026-01-01", "2026-06-01").replace("= 3", '= "0.25"\npremium_unit_price_usd = "0.04"')
    book = parsed((PREMIUM + "effective_to = 2026-06-01\n" + later).encode(), "mine", shipped=False)
    said = [book.premium("openai", "m", date(2026, month, 1)) for month in (1, 5, 6, 12)]
    assert [(one.multiplier, one.unit_price_usd) for one in said if one] == [
        (Decimal(3), None),
        (Decimal(3), None),
        (Decimal("0.25"), Decimal("0.04")),
        (Decimal("0.25"), Decimal("0.04")),
    ]
    assert book.premium("openai", "m", date(2025, 12, 31)) is None
    assert not book.prices("openai", "m", date(2026, 2, 1))
    with pytest.raises(PriceFileError, match="unknown table or key `premium`"):
        parsed(PREMIUM.encode(), "shipped", shipped=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price = 3", r"\[\[price\]\]"),
        ("[[prices]]\n", "unknown table or key `prices`"),
        ("schema = 2", "schema other than 1"),
        ("[[price]\n", "not valid TOML"),
        (PRICED + "inputs = 3\n", "number 1: unknown key `inputs`"),
        (PRICED + "utc_hours = []\n", "unknown key `utc_hours`"),
        ("[[multiplier]]\n", "unknown table or key `multiplier`"),
        (ROW, "`input` and `output` must be given"),
        (ROW + 'input = "1"\n', "`input` and `output` must be given"),
        (PRICED.replace('"1"', '"one"'), "`input` must be a number"),
        (PRICED.replace('"1"', "true"), "`input` must be a number"),
        (PRICED.replace('"1"', '"-1"'), "must not be negative"),
        (PRICED.replace('"1"', '"NaN"'), "must not be negative or endless"),
        (PRICED.replace('"1"', '"2000.01"'), "above 2,000"),
        (PRICED.replace('"1"', '"0.0000001"'), "more than six decimals"),
        (ROW + "input = 0\noutput = 0\n", "all rates are zero"),
        (PRICED + "free = true\n", "a free model has no rates"),
        (PRICED + 'free = "yes"\n', "`free` must be true or false"),
        (PRICED + 'variant = "turbo"\n', "`turbo` is none of standard, batch"),
        (PRICED + "prompt_over = -2\n", "`prompt_over` must be a whole number"),
        (PRICED + 'prompt_over = "many"\n', "`prompt_over` must be a whole number"),
        (PRICED + "effective_to = 2026-01-01\n", "must be after `effective_from`"),
        (PRICED.replace("2026-01-01", "2026-01-01T00:00:00Z"), "without a time"),
        (PRICED.replace("2026-01-01", '"soon"'), "must be a day like"),
        (PRICED.replace("effective_from = 2026-01-01\n", ""), "`effective_from` must be given"),
        (PRICED.replace('provider = "openai"\n', ""), "`provider` must be given"),
        (PRICED.replace('model = "m"', 'model = ["m", "n"]'), "`model` must be text"),
        (PRICED + PRICED, "two prices of openai m"),
        (PREMIUM.replace("premium_multiplier = 3\n", ""), "`premium_multiplier` must be given"),
        (PREMIUM.replace("= 3", '= "0.33333"'), "more than four decimals"),
        (PREMIUM.replace("= 3", "= -3"), "must not be negative"),
        (PREMIUM + 'premium_unit_price_usd = "a lot"\n', "`premium_unit_price_usd` must be a number"),
        (PREMIUM + "input = 1\n", r"\[\[premium\]\] number 1: unknown key `input`"),
        (PREMIUM + PREMIUM, "two statements about premium requests of openai m"),
        (PRICED + PRICED.replace("2026-01-01", "2027-01-01"), "two prices of openai m"),
        (PRICED + ROW.replace("2026-01-01", "2026-06-01") + "free = true\n", "two prices of openai m"),
        ('[[alias]]\nmatch="a"\nprovider="openai"\nmodel="m"\nregex="x"\n', "unknown key `regex`"),
        ('[[alias]]\nmatch="a"\nprovider="openai"\nmodel="m"\n' * 2, "two aliases of a"),
    ],
)
def test_a_slip_is_an_error(text: str, message: str) -> None:
    with pytest.raises(PriceFileError, match=message):
        parsed(text.encode(), "prices.toml", shipped=False)


def test_the_same_model_may_have_prices_for_other_days_variants_and_tiers() -> None:
    text = (
        PRICED
        + "effective_to = 2026-06-01\n"
        + PRICED.replace("2026-01-01", "2026-06-01")
        + PRICED
        + 'variant = "fast"\n'
        + PRICED
        + "prompt_over = 200000\n"
    )
    assert len(parsed(text.encode(), "f", shipped=False).rows["openai", "m"]) == 4


def test_text_that_is_no_utf8_is_an_error() -> None:
    with pytest.raises(PriceFileError, match="not valid TOML"):
        parsed(b"\xff\xfe", "prices.toml", shipped=False)


def test_every_shipped_correction_has_a_source_and_believable_rates() -> None:
    book = read_corrections()
    rows = [row for same in book.rows.values() for row in same]
    assert rows
    for row in rows:
        assert row.source and not row.free
        assert all(rate <= HIGHEST_RATE for rate in row.rates.values())
        assert row.rates.get("cache_read", Decimal(0)) <= row.rates["input"] <= row.rates["output"]
    for multipliers in book.multipliers.values():
        assert all(multiplier.source for multiplier in multipliers)


def test_the_documented_file_is_a_good_file() -> None:
    documentation = Path(__file__).parents[2] / "docs" / "pricing.md"
    example = documentation.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    book = parsed(example.encode(), "docs/pricing.md", shipped=False)
    assert len(book.rows["openai", "gpt-5.6-sol"]) == 3
    assert book.rows["ollama", "qwen3-coder:30b"][0].free
    assert book.aliases[0].tool == "codex"
