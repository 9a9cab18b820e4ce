"""`kharcha prices`: the rates costs were made from, what has no price, and the audited way to change rates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import Format, calendar_day, format_option, json_option, published_path
from kharcha_pipeline.cli.tables import Cell, Column, Table
from kharcha_pipeline.cli.texts import counted, dollars, exact

if TYPE_CHECKING:
    from kharcha_pipeline.pricing.price_sources import PriceSources, Resolution, Unpriceable
    from kharcha_pipeline.pricing.queries import SnapshotRates, UnpricedUse
    from kharcha_pipeline.pricing.rates import Rates
    from kharcha_pipeline.pricing.repricing import RepriceResult
    from kharcha_pipeline.settings import Settings
    from kharcha_pipeline.warehouse.warehouse import Warehouse


@click.group(name="prices")
def command() -> None:
    """Look at prices; change frozen ones with a trail."""


_by_option = click.option("--by", metavar="WHO", default="", help="Who does it, to be kept in reprice_log.")
_apply_option = click.option("--apply", is_flag=True, help="Do it. Without this nothing changes.")


@command.command()
@click.argument("model")
@click.option("--provider", metavar="PROVIDER", default="", help="Whose price list, e.g. openai; by default any.")
@click.option("--day", metavar="DAY", help="UTC day, YYYY-MM-DD; by default today.")
@format_option
def show(model: str, provider: str, day: str | None, format: Format) -> None:
    """Show what a model costs.

    Both the rates frozen by its use and what the price sources say are shown. Rates are USD per million tokens, web
    searches USD per thousand. A day belongs to UTC, as vendors date prices.
    """
    from kharcha_pipeline.pricing.price_sources import Unpriceable
    from kharcha_pipeline.pricing.queries import present_price

    prices = _price_sources(_settings())
    utc_day = calendar_day(day, "--day") if day else prices.today
    frozen = _frozen_rates(model, provider, utc_day if day else None)
    present = present_price(prices, model, provider, utc_day)
    if format is Format.JSON:
        reason = present.reason if isinstance(present, Unpriceable) else None
        output.print_json(
            {
                "model": model,
                "day": utc_day,
                "frozen": [rates._asdict() for rates in frozen],
                "present": _present_document(present),
                "reason_for_no_price": reason,
            }
        )
    elif format is Format.CSV:
        rows = [*map(_frozen_line, frozen), *_present_lines(present)]
        output.print_csv(_RateLine._fields, rows)
    else:
        _show_frozen(model, day, frozen)
        _show_present(model, utc_day, present)


@command.command("list")
@click.option("--model", "-m", metavar="TEXT", default="", help="Only models whose name contains this.")
@format_option
def list_prices(model: str, format: Format) -> None:
    """List every price that was used.

    A row is a span of days of use with equal rates, in USD per million tokens.
    """
    from kharcha_pipeline.pricing.queries import PriceSpan, price_spans
    from kharcha_pipeline.warehouse.warehouse import connect_published

    connection = connect_published(published_path())
    try:
        spans = [span for span in price_spans(connection) if model.lower() in span.price_model.lower()]
    finally:
        connection.close()
    if format is Format.JSON:
        output.print_json({"prices": [span._asdict() for span in spans]})
    elif format is Format.CSV:
        output.print_csv(PriceSpan._fields, spans)
    elif not spans:
        click.echo("No price was used yet." if not model else "No price matches.")
    else:
        columns = [
            Column("Provider", importance=60),
            Column("Model", narrowest=18),
            Column("First day", importance=90),
            Column("Last day", importance=85),
            Column("Days", right=True, importance=30),
            Column("Input", right=True),
            Column("Output", right=True),
            Column("Cache read", right=True, importance=50),
            Column("5m write", right=True, importance=45),
            Column("1h write", right=True, importance=40),
            Column("Basis", importance=70),
        ]
        rows: list[Sequence[Cell]] = [
            [
                span.price_provider,
                span.price_model,
                str(span.first_day),
                str(span.last_day),
                f"{span.days:,}",
                *map(_rate, span[7:12]),
                span.basis,
            ]
            for span in spans
        ]
        output.print_table(Table(columns, rows))


@command.command()
@format_option
def unpriced(format: Format) -> None:
    """Show what has no known price, why, and what to do."""
    from kharcha_pipeline.pricing.queries import UnpricedUse, unpriced_uses

    with _warehouse(_settings()).read() as connection:
        uses = unpriced_uses(connection)
    if format is Format.JSON:
        output.print_json({"unpriced": [use._asdict() for use in uses]})
    elif format is Format.CSV:
        output.print_csv(UnpricedUse._fields, uses)
    elif not uses:
        click.echo("Everything that was used has a price.")
    else:
        columns = [
            Column("Model", narrowest=16),
            Column("Provider", importance=60),
            Column("Responses", right=True),
            Column("Tokens", right=True, importance=80),
            Column("First day", importance=50),
            Column("Last day", importance=40),
            Column("Reason", importance=90, narrowest=40),
        ]
        rows: list[Sequence[Cell]] = [
            [
                use.model or use.model_raw or "(none)",
                use.provider or "(none)",
                f"{use.events:,}",
                f"{use.tokens:,}",
                str(use.first_day),
                str(use.last_day),
                use.reason,
            ]
            for use in uses
        ]
        output.print_table(Table(columns, rows))
        if (example := next((use for use in uses if use.model), None)) is not None:
            click.echo(_advice(example))


@command.command()
@click.option("--provider", metavar="PROVIDER", required=True, help="Whose price list, as in `kharcha prices list`.")
@click.option("--model", "-m", metavar="MODEL", required=True, help="The model in that list.")
@click.option("--from", "from_day", metavar="DAY", required=True, help="First UTC day, YYYY-MM-DD.")
@click.option("--to", "to_day", metavar="DAY", help="First UTC day no longer covered; by default all days up to now.")
@click.option("--reason", metavar="TEXT", default="", help="Why; needed with --apply and kept for ever.")
@_apply_option
@_by_option
@json_option
def reprice(
    provider: str, model: str, from_day: str, to_day: str | None, reason: str, apply: bool, by: str, json: bool
) -> None:
    """Change frozen rates to what is known now.

    A dry run unless --apply is given: it shows what would change, per day. Nothing is lost: a new revision is written
    beside the old one, `reprice_log` keeps who, when, why and the totals, and `kharcha prices undo` takes it back.
    """
    from kharcha_pipeline.pricing import repricing

    first = calendar_day(from_day, "--from")
    end = calendar_day(to_day, "--to") if to_day else datetime.now(UTC).date() + timedelta(days=1)
    if end <= first:
        raise click.BadParameter("it must be after --from; it is the first day no longer covered.", param_hint="--to")
    if apply and not reason.strip():
        raise click.BadParameter("say why the rates change; the reason is kept for ever.", param_hint="--reason")
    settings = _settings()
    prices = _price_sources(settings)
    change = _Change(settings, prices, apply)
    result = change.made(
        lambda connection: repricing.reprice(connection, provider, model, first, end, reason, apply, prices, by)
    )
    _tell(result, json=json, applied=apply, again="the same command with --apply and a --reason")


@command.command()
@click.argument("reprice_id", metavar="NUMBER", type=int)
@_apply_option
@_by_option
@json_option
def undo(reprice_id: int, apply: bool, by: str, json: bool) -> None:
    """Take a reprice back.

    NUMBER is that of the table reprice_log: `kharcha sql "FROM reprice_log"`. A dry run unless --apply is given. The
    revisions before it are written once more; nothing is deleted.
    """
    from kharcha_pipeline.pricing import repricing

    settings = _settings()
    change = _Change(settings, _price_sources(settings), apply)
    result = change.made(lambda connection: repricing.undo_reprice(connection, reprice_id, by))
    _tell(result, json=json, applied=apply, again="the same command with --apply")


@dataclass(frozen=True)
class _Change:
    """A change of frozen rates: applied with its days wanted in the same transaction, or taken back at its end."""

    settings: Settings
    prices: PriceSources
    apply: bool

    def made(self, work: Any) -> RepriceResult:
        """Does the work; when it is to stay, builds the days concerned and publishes."""
        from kharcha_pipeline import stages
        from kharcha_pipeline.warehouse import ledger

        warehouse = _warehouse(self.settings)
        result: RepriceResult
        if not self.apply:
            with warehouse.read() as connection:  # rolls back whatever was written
                result = work(connection)
            return result
        with warehouse.write() as connection:
            result = work(connection)
            if result.days:
                ledger.want(connection, result.days)
        stages.build_stale(warehouse, self.prices)
        warehouse.publish()
        return result


def _settings() -> Settings:
    from kharcha_pipeline.settings import load_settings

    return load_settings(os.environ)


def _price_sources(settings: Settings) -> PriceSources:
    from kharcha_pipeline.pricing.price_sources import PriceSources

    return PriceSources.load(settings.prices)


def _warehouse(settings: Settings) -> Warehouse:
    from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError

    warehouse = Warehouse(settings.data_directory)
    if not warehouse.path.exists():
        raise WarehouseError(f"There is no warehouse in {settings.data_directory} yet. Run `kharcha sync` first.")
    return warehouse


def _frozen_rates(model: str, provider: str, day: date | None) -> list[SnapshotRates]:
    from kharcha_pipeline.pricing.queries import stored_rates
    from kharcha_pipeline.warehouse.warehouse import connect_published

    if not published_path().exists():
        return []
    connection = connect_published(published_path())
    try:
        return stored_rates(connection, model, provider, day)
    finally:
        connection.close()


class _RateLine(NamedTuple):
    """One row of rates, frozen or present."""

    state: str
    price_provider: str
    price_model: str
    day: date | None
    variant: str
    prompt_over: int
    from_minute: int
    until_minute: int
    input_per_mtok: Decimal
    output_per_mtok: Decimal
    cache_read_per_mtok: Decimal | None
    cache_write_5m_per_mtok: Decimal | None
    cache_write_1h_per_mtok: Decimal | None
    web_search_per_k: Decimal | None
    basis: str
    source: str


_OF_THE_WHOLE_CARD = ("state", "day", "price_provider", "price_model")


def _frozen_line(rates: SnapshotRates) -> _RateLine:
    return _RateLine(
        "frozen",
        rates.price_provider,
        rates.price_model,
        rates.snapshot_day,
        rates.variant,
        rates.prompt_over,
        rates.from_minute,
        rates.until_minute,
        *rates[9:15],
        rates.rates_basis,
        rates.rates_source,
    )


def _present_lines(present: Resolution | Unpriceable) -> list[_RateLine]:
    from kharcha_pipeline.pricing.price_sources import Unpriceable

    if isinstance(present, Unpriceable):
        return []
    return [_present_line(present, rates) for rates in present.card.rates]


def _present_line(present: Resolution, rates: Rates) -> _RateLine:
    return _RateLine(
        "present",
        present.price_provider,
        present.price_model,
        None,
        rates.variant,
        rates.prompt_over,
        rates.from_minute,
        rates.until_minute,
        rates.input,
        rates.output,
        rates.cache_read,
        rates.cache_write_5m,
        rates.cache_write_1h,
        rates.web_search_per_k,
        rates.basis,
        rates.source,
    )


def _present_document(present: Resolution | Unpriceable) -> dict[str, Any] | None:
    from kharcha_pipeline.pricing.price_sources import Unpriceable

    if isinstance(present, Unpriceable):
        return None
    return {
        "price_provider": present.price_provider,
        "price_model": present.price_model,
        "match_rule": present.rule,
        "vendor_equivalent": present.vendor_equivalent,
        "source": present.card.source,
        "source_version": present.card.source_version,
        "rates": [
            {name: value for name, value in line._asdict().items() if name not in _OF_THE_WHOLE_CARD}
            for line in _present_lines(present)
        ],
    }


def _show_frozen(model: str, frozen_on: str | None, frozen: list[SnapshotRates]) -> None:
    by_snapshot: dict[tuple[str, str, date, int], list[_RateLine]] = {}
    for rates in frozen:
        by_snapshot.setdefault(rates[:4], []).append(_frozen_line(rates))
    for (provider, name, snapshot_day, revision), lines in by_snapshot.items():
        again = f", revision {revision}" if revision > 1 else ""
        click.echo(f"{provider} {name}, frozen by its use on {snapshot_day}{again}:\n")
        output.print_table(_rate_table(lines))
        click.echo()
    if not frozen:
        click.echo(f"No rates of {model} are frozen{f' for {frozen_on}' if frozen_on else ''}: it was not used.\n")


def _show_present(model: str, day: date, present: Resolution | Unpriceable) -> None:
    from kharcha_pipeline.pricing.price_sources import Unpriceable

    if isinstance(present, Unpriceable):
        click.echo(f"The price sources have no price of {model} on {day}: {present.reason}.")
        return
    standing_in = ", the vendor's own list standing in" if present.vendor_equivalent else ""
    source = f"{present.card.source} {present.card.source_version}".strip()
    click.echo(f"{present.price_provider} {present.price_model}, as {source} has it for {day}{standing_in}:\n")
    output.print_table(_rate_table(_present_lines(present)))


def _rate_table(lines: list[_RateLine]) -> Table:
    columns = [
        Column("Variant"),
        Column("Prompt over", right=True, importance=90),
        Column("UTC hours", importance=60),
        Column("Input", right=True),
        Column("Output", right=True),
        Column("Cache read", right=True, importance=80),
        Column("5m write", right=True, importance=70),
        Column("1h write", right=True, importance=65),
        Column("Search/k", right=True, importance=50),
        Column("Basis", importance=75),
        Column("Source", importance=40, narrowest=12),
    ]
    rows: list[Sequence[Cell]] = [
        [
            line.variant,
            f"{line.prompt_over:,}" if line.prompt_over >= 0 else "",
            _hours(line.from_minute, line.until_minute),
            _rate(line.input_per_mtok),
            _rate(line.output_per_mtok),
            _rate(line.cache_read_per_mtok),
            _rate(line.cache_write_5m_per_mtok),
            _rate(line.cache_write_1h_per_mtok),
            _rate(line.web_search_per_k),
            line.basis,
            line.source,
        ]
        for line in lines
    ]
    filled = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    return Table([columns[at] for at in filled], [[row[at] for at in filled] for row in rows])


def _hours(first: int, end: int) -> str:
    if end - first == 1440:
        return ""
    return f"{first // 60:02}:{first % 60:02}-{end // 60:02}:{end % 60:02}"


def _rate(rate: Decimal | None) -> str:
    """A rate with its digits, at least two of them behind the point."""
    if rate is None:
        return ""
    text = format(rate.normalize(), "f")
    whole, _, behind = text.partition(".")
    return f"{whole}.{behind:<02}" if len(behind) < 2 else text


def _advice(use: UnpricedUse) -> str:
    first = use.first_day - timedelta(days=1)  # its UTC day may be the day before
    return (
        "\nIf you know a price, write it into a file and name the file in KHARCHA_PRICES; the next sync uses it:\n\n"
        f'  schema = 1\n  [[price]]\n  provider = "{use.provider or "…"}"\n  model = "{use.model}"\n'
        f'  effective_from = {first}\n  input = "…"    # USD per million tokens\n  output = "…"   # or: free = true'
    )


def _tell(result: RepriceResult, *, json: bool, applied: bool, again: str) -> None:
    """What a change of frozen rates did, or would do."""
    if json:
        output.print_json(
            {
                "applied": applied and result.reprice_id is not None,
                "reprice_id": result.reprice_id if applied else None,
                "snapshots": result.snapshots,
                "snapshots_unchanged": result.unchanged,
                "days_without_a_price": result.unknown,
                "events": result.events,
                "old_total_usd": result.old_total_usd,
                "new_total_usd": result.new_total_usd,
                "difference_usd": result.difference_usd,
                "days": [{**one._asdict(), "difference_usd": exact(one.difference_usd)} for one in result.per_day],
            }
        )
        return
    if result.unknown:
        click.echo(
            f"The price sources have no rates now for {counted(len(result.unknown), 'day')}; these keep theirs."
        )
    if not result.snapshots:
        click.echo(f"Nothing differs: {counted(result.unchanged, 'snapshot')} as the price sources have it.")
        return
    columns = [
        Column("Day"),
        Column("Responses", right=True, importance=80),
        Column("Old (USD)", right=True),
        Column("New (USD)", right=True),
        Column("Difference", right=True),
    ]
    rows: list[Sequence[Cell]] = [
        [str(one.day), f"{one.events:,}", *_amounts(one.old_total_usd, one.new_total_usd, one.difference_usd)]
        for one in result.per_day
    ]
    totals = _amounts(result.old_total_usd, result.new_total_usd, result.difference_usd)
    output.print_table(Table(columns, rows, ["Total", f"{result.events:,}", *totals]))
    if applied:
        click.echo(f"\nDone: reprice {result.reprice_id}, {counted(result.snapshots, 'snapshot')} revised.")
        click.echo(f"`kharcha prices undo {result.reprice_id}` takes it back.")
    else:
        click.echo(
            f"\nNothing was changed: {counted(result.snapshots, 'snapshot')} would be revised. To do it: {again}."
        )


def _amounts(old: Decimal | None, new: Decimal | None, difference: Decimal) -> list[str]:
    sign = "+" if difference > 0 else ""
    return [dollars(old), dollars(new), f"{sign}{dollars(difference)}"]
