"""`kharcha config show` and `kharcha rebucket`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kharcha_pipeline_tests.cli.terminal import Terminal, write_three_days


def settings(terminal: Terminal, **variables: str) -> dict[str, tuple[str, str]]:
    """Value and origin of every setting."""
    shown = terminal.run("config", "show", "--format", "json", **variables).json["settings"]
    return {row["setting"]: (row["value"], row["from"]) for row in shown}


def test_every_setting_is_shown_with_its_origin(terminal: Terminal, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'machine = "desk"\n[[root]]\nsource = "claude-code"\npath = "/mnt/laptop/.claude"\naccount = "work"\n'
    )
    shown = settings(terminal, KHARCHA_CONFIG=str(config), CODEX_HOME="/srv/codex")
    assert shown == {
        "data_directory": (str(terminal.data), "KHARCHA_DATA_DIR"),
        "timezone": ("UTC", "KHARCHA_TIMEZONE"),
        "machine": ("desk", str(config)),
        "prices": ("none", "default"),
        "public_page": ("no", "default"),
        "hide_projects": ("no", "default"),
        "root of claude-code": ("/mnt/laptop/.claude, account work", str(config)),
        "home directory": (str(terminal.home), "HOME"),
        "logs of Codex CLI": ("/srv/codex", "CODEX_HOME"),
    }


def test_no_other_variable_is_shown(terminal: Terminal) -> None:
    for format in ("table", "json", "csv"):
        out = terminal.kharcha("config", "show", "-f", format, ANTHROPIC_API_KEY="sk-secret", TOKEN="sk-secret").out
        assert "sk-secret" not in out


def test_a_zone_that_is_not_set_is_the_pinned_one_else_the_machines(terminal: Terminal) -> None:
    assert settings(terminal, KHARCHA_TIMEZONE="", TZ="Asia/Tokyo")["timezone"] == (
        "Asia/Tokyo",
        "this machine; the first sync pins it",
    )
    assert not terminal.data.exists()
    terminal.kharcha("sync")
    assert settings(terminal, KHARCHA_TIMEZONE="", TZ="Asia/Tokyo")["timezone"] == ("UTC", "pinned by the first sync")


def test_whether_there_is_a_settings_file_is_said(terminal: Terminal) -> None:
    assert terminal.kharcha("config", "show").lines[-1] == "Settings file: ~/.config/kharcha/config.toml (not there)"


def test_rebucket_moves_days_and_keeps_totals(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    outcome = terminal.kharcha("rebucket", "--timezone", "Asia/Tokyo")
    assert outcome.code == 0
    assert outcome.lines == [
        "Days are now those of Asia/Tokyo and no longer of UTC: 3 days with usage became 3.",
        "Unchanged in total: 4 responses, 138,033 tokens, 0.48 USD; 1 response without a known price.",
        "Change the setting too: KHARCHA_TIMEZONE still asks for UTC.",
    ]
    report = terminal.kharcha("report", "-f", "json").json
    assert report["timezone"] == "Asia/Tokyo"
    assert [row["day"] for row in report["rows"]] == ["2026-10-30", "2026-11-02", "2026-11-04"]
    assert report["total"]["cost_usd"] == "0.482995000000"


def test_rebucket_tells_its_totals_as_json(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("sync")
    document = terminal.kharcha("rebucket", "--timezone", "America/Los_Angeles", "--json").json
    assert document == {
        "schema_version": 1,
        "zone_before": "UTC",
        "zone_after": "America/Los_Angeles",
        "days_before": 3,
        "days_after": 3,
        "events": 4,
        "tokens": 138_033,
        "cost_usd": "0.482995000000",
        "unpriced_events": 1,
    }


@pytest.mark.parametrize("zone", ["+09:00", "Asia/Tokio", "EST"])
def test_rebucket_refuses_what_is_no_zone(synced: Terminal, zone: str) -> None:
    outcome = synced.kharcha("rebucket", "--timezone", zone)
    assert (outcome.code, outcome.out) == (2, "")
    assert zone in outcome.err


def test_rebucket_needs_a_warehouse(terminal: Terminal) -> None:
    outcome = terminal.kharcha("rebucket", "--timezone", "Asia/Tokyo")
    assert outcome.code == 1
    assert "Run `kharcha sync` first." in outcome.err
    assert not terminal.data.exists()
