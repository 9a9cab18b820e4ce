"""`kharcha doctor`: what is where, and whether all is well."""

from __future__ import annotations

import fcntl
from pathlib import Path

import duckdb
import pytest

from kharcha_pipeline import __version__
from kharcha_pipeline.cli import doctor
from kharcha_pipeline_tests.cli.terminal import Terminal, write_three_days


@pytest.fixture
def own(terminal: Terminal) -> Terminal:
    """A synced terminal of the test's own, to break."""
    write_three_days(terminal)
    terminal.kharcha("sync")
    return terminal


def findings(terminal: Terminal, **variables: str) -> dict[str, list[str]]:
    """The findings by state."""
    found: dict[str, list[str]] = {"ok": [], "note": [], "failed": []}
    for finding in terminal.kharcha("doctor", "--json", **variables).json["findings"]:
        found[finding["state"]].append(finding["text"])
    return found


def test_a_healthy_warehouse_passes_every_check(synced: Terminal) -> None:
    outcome = synced.kharcha("doctor", "--json")
    assert (outcome.code, outcome.json["ok"]) == (0, True)
    found = findings(synced)
    assert found["failed"] == []
    for text in (
        "The warehouse can be read (schema 4).",
        "Days are those of UTC.",
        "No day is waiting to be built.",
        "The published tables are up to date.",
        "Every response is in the tables once.",
        "Tokens and cost agree between events, sessions and days.",
    ):
        assert text in found["ok"]
    assert found["note"] == [
        "1 of 4 responses (25 %) have no known price; their cost is NULL.",
        "1 line could not be used.",
    ]


def test_it_tells_what_is_found_where(synced: Terminal) -> None:
    places = {place["path"]: place for place in synced.kharcha("doctor", "--json").json["places"]}
    here = places[str(synced.home / ".claude/projects")]
    assert (here["source"], here["exists"], here["files"]) == ("claude-code", True, 2)
    assert here["size"] == sum(path.stat().st_size for path in synced.home.rglob("*.jsonl"))
    assert not places[str(synced.home / ".codex/sessions")]["exists"]
    assert not any(path.endswith("-wal") for path in places)


def test_it_tells_versions_zone_and_the_next_step(synced: Terminal) -> None:
    outcome = synced.kharcha("doctor")
    assert outcome.lines[0].startswith(f"Kharcha Pipeline {__version__} on ")
    assert f"duckdb {duckdb.__version__}" in " ".join(outcome.out.split())
    assert set(synced.kharcha("doctor", "--json").json["versions"]) >= {
        "kharcha",
        "dagster",
        "genai-prices",
        "tzdata",
    }
    assert outcome.lines[-2:] == ["  Run `kharcha prices unpriced`.", "  Run `kharcha rejects`."]


def test_before_the_first_sync_it_names_the_next_step_and_writes_nothing(terminal: Terminal) -> None:
    assert "Use one of the agents" in terminal.kharcha("doctor").out
    write_three_days(terminal)
    outcome = terminal.kharcha("doctor")
    assert (outcome.code, outcome.lines[-1]) == (0, "  Run `kharcha sync`.")
    assert not terminal.data.exists()


def test_another_zone_than_the_warehouses_fails(own: Terminal) -> None:
    outcome = own.kharcha("doctor", KHARCHA_TIMEZONE="Asia/Tokyo")
    assert outcome.code == 3
    assert "Run `kharcha rebucket --timezone Asia/Tokyo`" in outcome.out


def test_a_damaged_warehouse_fails(own: Terminal) -> None:
    (own.data / "warehouse.duckdb").write_bytes(b"nothing" * 4096)
    outcome = own.kharcha("doctor")
    assert outcome.code == 3
    assert "could not be used" in outcome.out


def test_a_missing_published_database_fails(own: Terminal) -> None:
    (own.data / "kharcha.duckdb").unlink()
    outcome = own.kharcha("doctor")
    assert outcome.code == 3
    assert "There is no readable published database." in outcome.out


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            "INSERT INTO core.priced_events SELECT * FROM core.priced_events LIMIT 1",
            "1 response in the tables more than once.",
        ),
        (
            "UPDATE daily_usage SET cost_usd = cost_usd + 0.000000000001 WHERE day = DATE '2026-10-30'",
            "Tokens or cost of 1 day differ between the tables, first on 2026-10-30.",
        ),
        (
            "UPDATE session_usage SET output_tokens = output_tokens - 1",
            "Tokens or cost of 3 days differ between the tables, first on 2026-10-30.",
        ),
        (
            "DELETE FROM daily_usage WHERE day = DATE '2026-11-03'",
            "Tokens or cost of 1 day differ between the tables, first on 2026-11-03.",
        ),
        (
            "UPDATE core.prices SET pricing_status = 'exact' WHERE price_id = md5('unpriced')::UUID",
            "1 response with a cost that contradicts its pricing status.",
        ),
    ],
)
def test_numbers_that_do_not_agree_fail(own: Terminal, damage: str, says: str) -> None:
    with duckdb.connect(str(own.data / "kharcha.duckdb")) as connection:
        connection.execute(damage)
    assert own.kharcha("doctor").code == 3
    assert says in findings(own)["failed"]


def test_days_that_wait_and_tables_that_are_old_are_notes(own: Terminal) -> None:
    with duckdb.connect(str(own.data / "warehouse.duckdb")) as connection:
        connection.execute("UPDATE operations.wanted_days SET wanted = wanted + 1 WHERE day > DATE '2026-11-01'")
        connection.execute("UPDATE operations.facts SET value = (value::INTEGER + 1)::VARCHAR WHERE name = 'changes'")
    found = findings(own)
    assert found["failed"] == []
    assert "2 days waiting to be built, 2026-11-02 to 2026-11-03." in found["note"]
    assert "The published tables are older than the warehouse." in found["note"]


def test_a_warehouse_in_use_is_not_waited_for(own: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOCK_SECONDS", 0.01)
    with open(own.data / "warehouse.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = findings(own)
    assert found["failed"] == []
    assert any("its checks were left out" in text for text in found["note"])


def test_a_valid_prices_file_is_said(own: Terminal, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text("schema = 1\n")
    assert f"The prices file {prices} is valid." in findings(own, KHARCHA_PRICES=str(prices))["ok"]


def test_places_that_cannot_be_read_are_notes(own: Terminal) -> None:
    (own.home / ".codex/sessions").mkdir(parents=True)
    (own.home / ".codex/sessions/loop.jsonl").symlink_to(own.home / ".codex/sessions/loop.jsonl")
    (note,) = [text for text in findings(own)["note"] if "loop.jsonl" in text]
    assert note == (
        "~/.codex/sessions/loop.jsonl cannot be read (too many levels of symbolic links); its logs are not counted."
    )
