"""`kharcha prices`: what is shown of prices, and the dry, applied and undone reprice."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline_tests.cli.terminal import SONNET, UNKNOWN, Terminal, write_three_days


def test_show_has_frozen_and_present_rates(synced: Terminal) -> None:
    document = synced.kharcha("prices", "show", SONNET, "--day", "2026-11-02", "-f", "json").json
    standard = next(rates for rates in document["frozen"] if rates["prompt_over"] == -1)
    assert (standard["input_per_mtok"], standard["output_per_mtok"]) == ("3.000000", "15.000000")
    assert (standard["snapshot_day"], standard["snapshot_basis"]) == ("2026-11-02", "exact_day")
    assert document["present"]["price_provider"] == "anthropic"
    assert document["reason_for_no_price"] is None


def test_show_says_that_a_price_is_not_known(synced: Terminal) -> None:
    outcome = synced.kharcha("prices", "show", "no-such-model")
    assert outcome.code == 0
    assert "No rates of no-such-model are frozen" in outcome.out
    assert "The price sources have no price of no-such-model on" in outcome.out
    assert synced.kharcha("prices", "show", "no-such-model", "-f", "json").json["present"] is None


def test_show_works_before_the_first_sync(terminal: Terminal) -> None:
    outcome = terminal.kharcha("prices", "show", SONNET)
    assert outcome.code == 0
    assert "3.00" in outcome.out


def test_show_as_csv_has_frozen_and_present_rows(synced: Terminal) -> None:
    rows = list(csv.DictReader(io.StringIO(synced.kharcha("prices", "show", SONNET, "-f", "csv").out)))
    assert {row["state"] for row in rows} == {"frozen", "present"}
    assert rows[0]["input_per_mtok"] == "3.000000"


def test_list_has_every_price_that_was_used(synced: Terminal) -> None:
    document = synced.kharcha("prices", "list", "-f", "json").json
    assert [(span["price_model"], span["first_day"], span["last_day"]) for span in document["prices"]] == [
        ("claude-haiku-4-5", "2026-11-02", "2026-11-02"),
        (SONNET, "2026-10-30", "2026-11-02"),
    ]
    assert SONNET not in synced.kharcha("prices", "list", "--model", "haiku").out
    assert "price_model" in synced.kharcha("prices", "list", "-f", "csv").lines[0]


def test_unpriced_names_model_reason_and_what_to_do(synced: Terminal) -> None:
    outcome = synced.kharcha("prices", "unpriced")
    assert outcome.lines[2].split()[0] == UNKNOWN
    assert "no price list has this exact name" in outcome.out
    assert f'model = "{UNKNOWN}"' in outcome.out
    (use,) = synced.kharcha("prices", "unpriced", "-f", "json").json["unpriced"]
    assert (use["model"], use["events"], use["tokens"]) == (UNKNOWN, 1, 5_700)


def test_following_that_advice_prices_the_usage(terminal: Terminal, tmp_path: Path) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    said = terminal.kharcha("prices", "unpriced").out
    advice = (
        said[said.index("  schema = 1") :]
        .replace('input = "…"', 'input = "2"')
        .replace('output = "…"', 'output = "4"')
    )
    prices = tmp_path / "prices.toml"
    prices.write_text(advice.replace('provider = "…"', 'provider = "anthropic"'))
    terminal.variables["KHARCHA_PRICES"] = str(prices)
    assert "1 day touched, 2026-11-03: 0.01 USD." in terminal.kharcha("sync").out
    assert terminal.kharcha("prices", "unpriced").out == "Everything that was used has a price.\n"


@pytest.fixture
def dearer(terminal: Terminal, tmp_path: Path) -> Terminal:
    """A terminal whose prices file says that sonnet costs twice what it was frozen at."""
    write_three_days(terminal)
    terminal.kharcha("sync")
    prices = tmp_path / "prices.toml"
    prices.write_text(
        f'schema = 1\n[[price]]\nprovider = "anthropic"\nmodel = "{SONNET}"\neffective_from = 2026-01-01\n'
        'input = "6"\noutput = "30"\n'
    )
    terminal.variables["KHARCHA_PRICES"] = str(prices)
    terminal.kharcha("sync")
    return terminal


REPRICE = ("prices", "reprice", "--provider", "anthropic", "--model", SONNET, "--from", "2026-10-01")


def total(terminal: Terminal) -> Decimal:
    """The cost of everything."""
    return Decimal(terminal.kharcha("report", "-f", "json").json["total"]["cost_usd"])


def test_a_changed_prices_file_alone_changes_no_frozen_cost(dearer: Terminal) -> None:
    assert total(dearer) == Decimal("0.482995")


def test_reprice_is_a_dry_run_that_shows_the_difference_per_day(dearer: Terminal) -> None:
    outcome = dearer.kharcha(*REPRICE)
    assert outcome.code == 0
    assert outcome.lines[2].split() == ["2026-10-30", "1", "0.45", "0.90", "+0.45"]
    assert outcome.lines[5].split() == ["Total", "2", "0.46", "0.92", "+0.46"]
    assert "Nothing was changed: 2 snapshots would be revised." in outcome.out
    assert total(dearer) == Decimal("0.482995")


def test_reprice_applied_changes_the_costs_and_undo_takes_it_back(dearer: Terminal) -> None:
    outcome = dearer.kharcha(*REPRICE, "--reason", "the list was wrong", "--apply", "--by", "sam")
    assert "Done: reprice 1, 2 snapshots revised." in outcome.out
    assert total(dearer) == Decimal("0.482995") + Decimal("0.457995")
    (log,) = dearer.kharcha("sql", "FROM reprice_log", "-f", "json").json["rows"]
    assert (log["reason"], log["repriced_by"], log["new_total_usd"]) == (
        "the list was wrong",
        "sam",
        "0.915990000000",
    )

    assert "would be revised" in dearer.kharcha("prices", "undo", "1").out
    assert total(dearer) == Decimal("0.940990")
    assert dearer.kharcha("prices", "undo", "1", "--apply").code == 0
    assert total(dearer) == Decimal("0.482995")


def test_reprice_can_be_limited_to_days_and_told_as_json(dearer: Terminal) -> None:
    document = dearer.kharcha(*REPRICE, "--to", "2026-11-01", "--json").json
    assert (document["applied"], document["reprice_id"], document["snapshots"]) == (False, None, 1)
    assert document["days"] == [
        {
            "day": "2026-10-30",
            "events": 1,
            "old_total_usd": "0.450000000000",
            "new_total_usd": "0.900000000000",
            "difference_usd": "0.450000000000",
        }
    ]


def test_reprice_says_when_nothing_differs(synced: Terminal) -> None:
    assert "Nothing differs: 2 snapshots" in synced.kharcha(*REPRICE).out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*REPRICE, "--apply"), "--reason"),
        ((*REPRICE, "--to", "2026-10-01"), "must be after --from"),
        ((*REPRICE[:-1], "october"), "'october' is not a day"),
        (
            ("prices", "reprice", "--provider", "x", "--model", "y", "--from", "2026-10-01"),
            "There is no pricing snapshot",
        ),
        (("prices", "undo", "7"), "There is no reprice number 7"),
    ],
)
def test_what_cannot_be_done_is_wrong_usage(synced: Terminal, arguments: tuple[str, ...], says: str) -> None:
    outcome = synced.kharcha(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err


def test_without_a_warehouse_the_next_step_is_named(terminal: Terminal) -> None:
    for arguments in (("prices", "unpriced"), ("prices", "list"), REPRICE, ("prices", "undo", "1", "--apply")):
        outcome = terminal.kharcha(*arguments)
        assert outcome.code == 1
        assert "Run `kharcha sync` first." in outcome.err
    assert not terminal.data.exists()
