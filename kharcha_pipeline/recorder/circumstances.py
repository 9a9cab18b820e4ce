"""What a new database of the recorder takes from its surroundings: the reporting zone and prices.

Only this module of the recorder needs more than the standard library, and it is imported once, when a database is
made, or by `sync` and `rebucket`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from kharcha_pipeline.pricing.price_sources import PriceSources, Unpriceable, used_name
from kharcha_pipeline.pricing.rates import BASE_TIER, Rates
from kharcha_pipeline.recorder.store import ModelPrices, Store, plain
from kharcha_pipeline.settings import SettingsError, load_settings, machine_zone

SOURCE = "recorder"

CATALOGUED = ("anthropic", "openai", "google", "xai", "deepseek", "mistral", "moonshotai")
"""Vendors whose models get a price before they were ever used."""

NOON = 12 * 60
"""The minute of the UTC day whose rates are taken, as everywhere where a price depends on the hour."""

LONGEST_WAIT = 10.0
"""Seconds that a refresh of prices waits for writers."""

logger = logging.getLogger("kharcha_pipeline.recorder")


def first_zone(data_directory: Path) -> str:
    """The reporting zone of a new database: the published tables', else the one that is set, else the machine's.

    The pipeline corrects it with its next sync, should it be another one, and moves all days.
    """
    published = data_directory / "kharcha.duckdb"
    try:
        if published.exists() and (zone := _published_zone(published)):
            return zone
        return load_settings().timezone or machine_zone()
    except SettingsError as error:
        logger.error("%s Until the next sync, the recorder's days are those of UTC.", error)
        return "UTC"


def _published_zone(published: Path) -> str | None:
    from kharcha_pipeline.warehouse.warehouse import WarehouseError, connect_published

    try:
        connection = connect_published(published)
    except WarehouseError:
        return None
    try:
        rows = connection.execute("SELECT value FROM about WHERE name = 'timezone'").fetchall()
    finally:
        connection.close()
    return str(rows[0][0]) if rows else None


def first_prices(store: Store) -> None:
    """Fills the prices of a new database.

    Raises:
        SettingsError, PriceFileError: when a setting or the user's prices file is wrong.
        sqlite3.Error: when the database cannot be written.
    """
    refresh_prices(store, PriceSources.load(load_settings().prices))


def refresh_prices(store: Store, prices: PriceSources) -> int:
    """Makes the prices in force those that the next calls get; returns how many changed.

    All models that were ever recorded are priced, and those that the catalogue lists for the main vendors. When the
    price sources, the day and the recorded models are the same as last time, nothing is written.

    Raises:
        sqlite3.Error: when the database cannot be written.
    """
    models = store.models()
    state = f"{prices.digest} {prices.today} {len(models)}"
    if store.fact("prices") == state:
        return 0
    listed = (name for vendor in CATALOGUED for name in prices.listed(vendor))
    rows = list(_priced(dict.fromkeys((*sorted(models), *listed)), prices))
    return store.replace_prices(rows, state, time.time_ns() // 1_000_000, time.monotonic() + LONGEST_WAIT)


def _priced(models: Iterable[str], prices: PriceSources) -> Iterator[ModelPrices]:
    for model in models:
        used = used_name("", model, SOURCE)
        found = prices.resolve(used, prices.today)
        premium = prices.premium(used, prices.today)
        if isinstance(found, Unpriceable) and premium is None:
            continue
        rates, provider, priced_as, source = None, "", "", ""
        if not isinstance(found, Unpriceable):
            rates = _standard(found.card.rates)
            provider, priced_as = found.price_provider, found.price_model
            source = f"{found.card.source} {found.card.source_version}".strip()
        yield ModelPrices(
            model,
            _text(rates.input if rates else None),
            _text(rates.cache_read if rates else None),
            _text(rates.output if rates else None),
            _text(rates.output if rates else None),  # reasoning is output; no list asks another price for it
            _text(premium.unit_price_usd if premium else None),
            _text(premium.multiplier if premium else None),
            provider,
            priced_as,
            source,
        )


def _standard(rates: Iterable[Rates]) -> Rates | None:
    """The rates of an ordinary short request."""
    return next(
        (
            row
            for row in rates
            if (row.variant, row.prompt_over) == ("standard", BASE_TIER)
            and row.from_minute <= NOON < row.until_minute
        ),
        None,
    )


def _text(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)
