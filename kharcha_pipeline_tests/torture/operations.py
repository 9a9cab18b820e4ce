"""What may happen to a warehouse, one operation each: for processes that work at once or are killed."""

from __future__ import annotations

import io
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import kharcha_pipeline
from kharcha_pipeline import stages
from kharcha_pipeline.cli.main import main
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket as change_zone
from kharcha_pipeline.sync import sync as synchronize
from kharcha_pipeline.warehouse.ledger import STAGES
from kharcha_pipeline.warehouse.warehouse import connect_published
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture.agreement import disagreements, totals

ZONES = ("Asia/Kolkata", "America/New_York", "Pacific/Auckland", "UTC")
REPRICED_FROM, REPRICED_TO = (LAST_DAY - timedelta(days=12)).isoformat(), (LAST_DAY - timedelta(days=4)).isoformat()
"""When prices are changed and taken back: days to which nothing is added any more."""

OUR_PRICES = f"""
[[price]]
provider = "{{provider}}"
model = "{{model}}"
effective_from = {REPRICED_FROM}
effective_to = {REPRICED_TO}
input = "1"
output = "3.000001"
"""


def sync(machine: Machine, rng: random.Random) -> None:
    """The main job."""
    synchronize(machine.settings)


def build(machine: Machine, rng: random.Random) -> None:
    """Builds a range of days, as a backfill does: all stages at once, or one transaction after the other."""
    prices = PriceSources.load()
    days = [LAST_DAY - timedelta(days=number) for number in range(rng.randrange(1, 20))]
    steps = [STAGES] if rng.random() < 0.3 else [(stage,) for stage in STAGES]
    for step in steps:
        stages.build(machine.warehouse, prices, days, step)
    machine.warehouse.publish()


def backfill(machine: Machine, rng: random.Random) -> None:
    """Builds a range of days as a backfill from Dagster's interface does: as one run of assets."""
    import dagster as dg  # takes a second, and no other operation needs it

    from kharcha_pipeline_tests.automation.location import Location

    with dg.DagsterInstance.ephemeral() as instance, redirect_stderr(io.StringIO()):
        Location(machine, instance).build(LAST_DAY - timedelta(days=rng.randrange(1, 20)), LAST_DAY)
    machine.warehouse.publish()


def rebucket(machine: Machine, rng: random.Random) -> None:
    """Moves all days to another zone."""
    change_zone(machine.warehouse, rng.choice(ZONES), PriceSources.load())
    machine.warehouse.publish()


def reprice(machine: Machine, rng: random.Random) -> None:
    """Takes back what is changed, then changes prices again and takes that back, all on the command line."""
    take_back_reprices(machine)
    used = machine.raw(
        "SELECT DISTINCT price_provider, price_model FROM pricing_snapshots "
        f"WHERE snapshot_day >= '{REPRICED_FROM}' AND snapshot_day < '{REPRICED_TO}' ORDER BY ALL"
    )
    if not used:
        return
    provider, model = rng.choice(used)
    ours = machine.data.parent / "prices.toml"
    ours.write_text(OUR_PRICES.format(provider=provider, model=model))
    period = ("--from", REPRICED_FROM, "--to", REPRICED_TO)
    arguments = ("prices", "reprice", "--provider", provider, "--model", model, *period)
    _command(machine, *arguments, "--apply", "--reason", "torture", "--json", prices=ours)
    take_back_reprices(machine)


def take_back_reprices(machine: Machine) -> None:
    """Undoes the reprice that is in force, if there is one."""
    rows = machine.raw("SELECT reprice_id FROM reprice_log ORDER BY reprice_id DESC")
    undone = {number for (number,) in machine.raw("SELECT undoes FROM reprice_log WHERE undoes IS NOT NULL")}
    undoing = {number for (number,) in machine.raw("SELECT reprice_id FROM reprice_log WHERE undoes IS NOT NULL")}
    for (number,) in rows:
        if number not in undone | undoing:
            _command(machine, "prices", "undo", str(number), "--apply", "--json")


def publish(machine: Machine, rng: random.Random) -> None:
    """Publishes a copy that says nothing new but is another file."""
    with machine.warehouse.write():
        pass
    machine.warehouse.publish()


def read(machine: Machine, rng: random.Random) -> None:
    """What an analyst's program does: opens the copy, looks whether all of it agrees, and closes it."""
    connection = connect_published(machine.warehouse.published_path)
    try:
        found = disagreements(connection)
    finally:
        connection.close()
    assert not found, found
    assert kharcha_pipeline.read("daily_usage", database=machine.warehouse.published_path).height


def read_for_long(machine: Machine, rng: random.Random) -> None:
    """What an analyst's session does: keeps a copy open, and finds the same in it for as long as it is open."""
    connection = connect_published(machine.warehouse.published_path)
    try:
        before = totals(connection)
        until = time.monotonic() + rng.uniform(1, 5)
        while time.monotonic() < until:
            found = disagreements(connection)
            assert not found, found
            assert totals(connection) == before
    finally:
        connection.close()


OPERATIONS: dict[str, Callable[[Machine, random.Random], None]] = {
    operation.__name__: operation
    for operation in (sync, build, backfill, rebucket, reprice, publish, read, read_for_long)
}


def _command(machine: Machine, *arguments: str, prices: Path | None = None) -> None:
    variables = {name: value for name, value in machine.environment.items() if value}
    with patch.dict(os.environ, variables | ({"KHARCHA_PRICES": str(prices)} if prices else {})):
        if code := main(arguments):
            sys.exit(code)
