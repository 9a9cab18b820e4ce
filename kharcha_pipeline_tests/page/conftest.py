"""Real published databases for the usage page: synced from logs with what pages must be careful with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from kharcha_pipeline import stages
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.page.serving import Server, serving
from kharcha_pipeline_tests.pricing.conftest import Ledger
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript, usage

ZONE = "Europe/Berlin"
HOSTILE_PROJECT = "/home/sam/</script><script>alert(1)</script>'\"&=1+1"
HOSTILE_MACHINE = "<img src=x onerror=alert(2)>"
UNPRICED_MODEL = "quiet-heron-9"


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Forty days of all agents, over the end of a month; what two other machines sent; names that mean something to
    HTML, and a model without a price."""
    machine = Machine.below(tmp_path_factory.mktemp("page"), timezone=ZONE)
    write_corpus(machine.home, 11, 120, 40, LAST_DAY)
    odd = {"model": UNPRICED_MODEL, "cwd": HOSTILE_PROJECT, "at": f"{LAST_DAY}T10:00:00Z"}
    transcript(machine.home, line(**odd))
    machine.sync()
    add_aggregate(machine)
    return machine


def add_aggregate(machine: Machine) -> None:
    """What two other machines sent: a day of this month and one of last month."""
    days = [LAST_DAY - timedelta(days=1), LAST_DAY - timedelta(days=30)]
    with machine.warehouse.write() as connection:
        rows = Ledger(connection)
        for number, day in enumerate(days):
            rows.add(
                "claude-opus-4-6",
                f"{day}T12:00:00",
                context_id=1_000_000 + number,
                evidence="aggregate",
                machine="laptop" if number else HOSTILE_MACHINE,
                session_id="",
                responses=7,
                input_tokens=1_000,
                output_tokens=500,
                cache_read_tokens=9_000,
            )
        ledger.want(connection, days)
    stages.build_stale(machine.warehouse, PriceSources.load(machine.settings.prices), surely=True)
    machine.warehouse.publish()


def add_response(machine: Machine, session: str, output_tokens: int) -> None:
    """One more response of today, synced and published."""
    transcript(
        machine.home,
        line("msg_" + session, "req_" + session, at=f"{LAST_DAY}T11:00:00Z", session=session,
             used=usage(output_tokens=output_tokens)),
        session=session,
    )  # fmt: skip
    machine.sync()


@pytest.fixture(scope="session")
def server(machine: Machine) -> Iterator[Server]:
    """The page over that machine's database."""
    with serving(machine.warehouse.published_path) as server:
        yield server
