"""Logs whose content is hostile, through the whole sync: it ends well, and the honest usage is all there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
import time_machine

from kharcha_pipeline_tests.cli.terminal import Terminal
from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.hostile.mutation import damaged_bytes, damaged_line, damaged_lines
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript, usage

MODEL = "claude-opus-4-6"


def costing(number: int, cost: str, **fields: object) -> str:
    """A response that states what it cost, digit by digit."""
    return json.dumps(line(f"msg_{number}", f"req_{number}", **fields)).replace('"cwd"', f'"costUSD": {cost}, "cwd"')


def test_instants_at_both_ends_of_the_calendar(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    instants = {
        "9999-12-31T23:59:59.999Z": "claims to be from the future",
        "9999-12-31T23:59:59.999-14:00": "claims to be from the future",
        253_402_300_799_999: "claims to be from the future",
        "2019-12-31T23:59:59.999Z": "claims to be older than 2020",
        "1970-01-02T00:00:00.000Z": "claims to be older than 2020",
        "2020-01-01T00:00:00.000Z": None,
        "0001-01-01T00:00:00.000Z": None,  # how some languages write that there is no time: that of its neighbour
        -1: None,
        10**30: None,
    }
    transcript(machine.home, *(line(f"msg_{n}", f"req_{n}", at=at) for n, at in enumerate(instants)))
    machine.sync()
    reasons = [reason for reason in instants.values() if reason]
    assert machine.query("SELECT reason FROM rejects ORDER BY line") == [(reason,) for reason in reasons]
    assert machine.query(
        "SELECT day, count(*), min(time_quality), max(time_quality) FROM priced_events GROUP BY day"
    ) == [(datetime(2020, 1, 1).date(), 4, "exact", "neighbour")]


def test_counts_of_any_size_add_up(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    largest = {"input_tokens": 10**11, "output_tokens": 10**11, "cache_read_input_tokens": 10**11}
    transcript(
        machine.home,
        *(line(f"msg_{number}", f"req_{number}", used=largest) for number in range(300)),
        line("msg_64", "req_64_bits", used=usage(input_tokens=2**63, cache_read_input_tokens=2**64)),
        line("msg_big", "req_big", used=usage(input_tokens=10**40)),
        line("msg_minus", "req_minus", used=usage(input_tokens=-5, output_tokens=1)),
    )
    machine.sync()
    assert machine.query("SELECT sum(events)::INT, sum(input_tokens)::BIGINT FROM daily_usage") == [
        (303, 300 * 10**11)
    ]
    assert machine.query("SELECT count(*) FROM priced_events WHERE cost_usd < 0 OR cost_usd IS NULL") == [(0,)]


def test_costs_of_any_number_of_digits(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    written = ["0.123456789012345678901234567890", "0.0000000000025", "1e-999999", "1e99999999999999999999", "1e400"]
    written += ["999999999999.9999999999999", "-1", "NaN", '"0.5"', "0.1"]
    transcript(machine.home, *(costing(number, cost) for number, cost in enumerate(written)))
    machine.sync()
    stated = "SELECT reported_cost_usd FROM priced_events ORDER BY occurred_at, reported_cost_usd NULLS LAST"
    found = [cost for (cost,) in machine.query(stated)]
    expected = ["0.000000000002", "0.1", "0.123456789012", "0.5", "1000000000000"]
    assert found[:5] == [Decimal(cost) for cost in expected]
    assert found[5:] == [None] * 5
    assert machine.query("SELECT count(*) FROM rejects") == [(0,)]


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        ("0.123456789012345678901234567890", "more than six decimals"),
        ("123456789012345678901234567890", "is above"),
        ("1e999999", "is above"),
        ("1e-999999", "more than six decimals"),
        ("nan", "must not be negative or endless"),
        ("-inf", "must not be negative or endless"),
        ("1e99999999999999999999", "is not valid TOML"),
        ("1" * 5000, "is not valid TOML"),
    ],
    ids=lambda text: text[:12],
)
def test_prices_of_thirty_digits_are_refused_in_a_sentence(tmp_path: Path, rate: str, said: str) -> None:
    terminal = Terminal.below(tmp_path)
    prices = tmp_path / "prices.toml"
    prices.write_text(
        f'[[price]]\nprovider = "anthropic"\nmodel = "m"\neffective_from = 2026-01-01\ninput = {rate}\noutput = 1\n'
    )
    outcome = terminal.kharcha("sync", KHARCHA_PRICES=str(prices))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"kharcha: The prices file {prices}")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert len(outcome.err) < 500


def test_texts_of_any_content_are_names_like_others(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    strange = [
        "\0",
        "a\0b",
        "\u2028",
        "\x1b[2J",
        "'; DROP TABLE x; --",
        "{{7*7}}",
        "\U0001f980" * 400,
        "x" * 1_000_000,
    ]
    transcript(
        machine.home,
        *(
            line(f"msg_{text}", f"req_{text}", model=text, session=text, cwd=text, gitBranch=text, uuid=text)
            for text in strange
        ),
    )
    machine.sync()
    machine.sync(full=True)
    found = {model for (model,) in machine.query("SELECT model_raw FROM priced_events")}
    assert found == set(strange)


def test_a_hundred_thousand_rejects_in_one_file(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    transcript(machine.home, line("msg_1", "req_1"), *["{broken"] * 99_999, line("msg_2", "req_2"))
    result = machine.sync()
    assert result.landing.rejects == 99_999
    assert machine.query("SELECT count(*), count(DISTINCT line), max(line) FROM rejects") == [
        (99_999, 99_999, 100_000)
    ]
    assert machine.query("SELECT count(*) FROM priced_events") == [(2,)]
    assert machine.sync(full=True).landing.rejects == 0


def test_a_tree_in_which_everything_is_damaged_keeps_the_honest_files_whole(tmp_path: Path) -> None:
    """Damaged copies of all files lie beside the honest ones, under names of their own."""
    honest = Machine.below(tmp_path, "honest")
    truth = write_corpus(honest.home, 21, 24, 10, LAST_DAY)
    rng = Random(7)
    files = sorted(path for path in honest.home.rglob("*") if path.suffix in (".jsonl", ".json", ".zst"))
    for path in files:
        if path.name in ("state.json", "kimi.json", "config.json"):  # context of honest wires
            continue
        content = path.read_bytes()
        if path.suffix == ".jsonl" and b"\n" in content:
            damaged = damaged_lines([b'{"type":"hostile","message":{"id":"hostile"}}'], rng)
            damaged += b"".join(damaged_line(b'{"type":"hostile","usage":{}}', rng) + b"\n" for _ in range(20))
        else:
            damaged = damaged_bytes(b"{" + content[:20], rng)
        path.with_name(f"damaged-{path.name}").write_bytes(damaged)
    honest.sync()
    assert honest.cells() == truth


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_clock_that_is_set_back_a_year_loses_and_doubles_nothing(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    now = datetime.now(UTC)
    then = now - timedelta(days=365)
    moments = {"before": now - timedelta(hours=1), "meanwhile": then, "after": now + timedelta(hours=1)}
    clocks = {"before": now, "meanwhile": then + timedelta(minutes=1), "after": now + timedelta(hours=2)}
    for number, (session, moment) in enumerate(moments.items()):
        with time_machine.travel(clocks[session]):
            transcript(machine.home, line(f"msg_{number}", f"req_{number}", at=iso(moment)), session=session)
            machine.sync()
            machine.sync()
        assert machine.query("SELECT count(*), count(DISTINCT event_id) FROM priced_events") == [(number + 1,) * 2]
    assert machine.query("SELECT count(*) FROM rejects") == [(0,)]
    days = {(moment.date(),) for moment in moments.values()}
    assert set(machine.query("SELECT day FROM daily_usage")) == days


def test_a_clock_that_was_a_year_ahead_hides_no_later_usage(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    now = datetime.now(UTC)
    write_corpus(machine.home, 3, 16, 5, LAST_DAY)
    with time_machine.travel(now + timedelta(days=365)):
        machine.sync()
    before = machine.query("SELECT count(*) FROM priced_events")[0][0]
    transcript(machine.home, line("msg_1", "req_1", at=iso(now)))
    machine.sync()
    assert machine.query("SELECT count(*) FROM priced_events") == [(before + 1,)]
