"""The rates of one model on one day: the rows of `pricing_rates`, before they are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, NamedTuple

Basis = Literal["exact_day", "correction", "override", "free"]
"""Where a row of rates comes from: the catalogue's price of that very day, a shipped correction, the user's own
file, or the user's statement that the model is free."""

VARIANTS = ("standard", "batch", "flex", "priority", "fast")
BASE_TIER = -1
"""`prompt_over` of the rates that hold for every prompt, however short."""
MINUTES_OF_DAY = 1440

HIGHEST_RATE = Decimal(2000)
"""USD per million tokens. No vendor has asked a third of it; above it a decimal point has slipped."""
RATE_STEP = Decimal("0.000001")


class Rates(NamedTuple):
    """USD per million tokens of one variant, for one span of prompt lengths and of minutes of the UTC day.

    They hold for whole requests: when a prompt has more than `prompt_over` and at most `prompt_up_to` tokens, every
    token of the request costs this, output included. A rate that is `None` is not stated by the source.
    """

    variant: str
    prompt_over: int
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    web_search_per_k: Decimal | None = None
    basis: Basis = "exact_day"
    source: str = ""
    prompt_up_to: int | None = None
    from_minute: int = 0
    until_minute: int = MINUTES_OF_DAY

    @property
    def per_mtok(self) -> tuple[Decimal, ...]:
        """The token rates that are stated."""
        stated = (self.input, self.output, self.cache_read, self.cache_write_5m, self.cache_write_1h)
        return tuple(rate for rate in stated if rate is not None)


def refusal(rates: Iterable[Rates]) -> str | None:
    """Why these rates cannot be right, as a phrase, else `None`. Free models are stated as such, never by zeros."""
    for row in rates:
        if row.basis == "free":
            continue
        if max(row.per_mtok) > HIGHEST_RATE:
            return "a rate is above 2,000 USD per million tokens"
        if max(row.per_mtok) == 0:
            return "all rates are zero, which is no price unless the user says that the model is free"
    return None


def with_prompt_limits(rates: Iterable[Rates]) -> list[Rates]:
    """The same rates, each knowing up to which prompt it holds: to the threshold of the next tier of its variant."""
    rows = list(rates)
    thresholds: dict[str, list[int]] = {}
    for row in rows:
        thresholds.setdefault(row.variant, []).append(row.prompt_over)
    return [
        row._replace(prompt_up_to=min((t for t in thresholds[row.variant] if t > row.prompt_over), default=None))
        for row in rows
    ]


def multiplied(row: Rates, factor: Decimal, **changes: object) -> Rates:
    """The row with every token rate multiplied; searches are not billed by the token and keep their price."""

    def times(rate: Decimal | None) -> Decimal | None:
        return None if rate is None else (rate * factor).quantize(RATE_STEP)

    return row._replace(
        input=(row.input * factor).quantize(RATE_STEP),
        output=(row.output * factor).quantize(RATE_STEP),
        cache_read=times(row.cache_read),
        cache_write_5m=times(row.cache_write_5m),
        cache_write_1h=times(row.cache_write_1h),
        **changes,  # type: ignore[arg-type]
    )


def as_records(rates: Iterable[Rates]) -> list[dict[str, str | int | None]]:
    """Rows as JSON-ready records in one canonical order and spelling; rates as decimal strings."""
    ordered = sorted(rates, key=lambda row: (row.variant, row.prompt_over, row.from_minute))
    return [
        {
            name: format(value.quantize(RATE_STEP), "f") if isinstance(value, Decimal) else value
            for name, value in row._asdict().items()
        }
        for row in ordered
    ]


def digest(records: list[dict[str, str | int | None]]) -> str:
    """SHA-256 of rates in their canonical spelling: equal rates of equal origin have equal digests."""
    text = json.dumps(records, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
