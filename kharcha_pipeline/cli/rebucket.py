"""`kharcha rebucket`: changes the reporting zone, and with it every day."""

from __future__ import annotations

import os

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import json_option
from kharcha_pipeline.cli.texts import counted, dollars


@click.command()
@click.option("--timezone", metavar="ZONE", required=True, help="IANA name of the new zone, e.g. Europe/Berlin.")
@json_option
def command(timezone: str, json: bool) -> None:
    """Change the reporting zone, and so every day.

    Every response moves to its day there. One transaction; no price is looked up again, so the totals stay what they
    are, which is checked.
    """
    from kharcha_pipeline.pricing.price_sources import PriceSources
    from kharcha_pipeline.rebucket import rebucket
    from kharcha_pipeline.settings import checked_zone, load_settings
    from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError

    zone = checked_zone(timezone, "--timezone")
    settings = load_settings(os.environ)
    warehouse = Warehouse(settings.data_directory)
    if not warehouse.path.exists():
        raise WarehouseError(f"There is no warehouse in {settings.data_directory} yet. Run `kharcha sync` first.")
    result = rebucket(warehouse, zone, PriceSources.load(settings.prices))
    warehouse.publish()
    for warning in result.warnings:
        click.echo(f"kharcha: {warning}", err=True)
    totals = result.totals
    if json:
        output.print_json(
            {
                "zone_before": result.zone_before,
                "zone_after": result.zone_after,
                "days_before": result.days_before,
                "days_after": result.days_after,
                "events": totals.events,
                "tokens": totals.tokens,
                "cost_usd": totals.cost_usd,
                "unpriced_events": totals.unpriced_events,
            }
        )
        return
    click.echo(
        f"Days are now those of {result.zone_after} and no longer of {result.zone_before}: "
        f"{counted(result.days_before, 'day')} with usage became {result.days_after:,}."
    )
    click.echo(
        f"Unchanged in total: {counted(totals.events, 'response')}, {totals.tokens:,} tokens, "
        f"{dollars(totals.cost_usd)} USD; {counted(totals.unpriced_events, 'response')} without a known price."
    )
    if settings.timezone not in (None, zone):
        click.echo(f"Change the setting too: {settings.origins['timezone']} still asks for {settings.timezone}.")
