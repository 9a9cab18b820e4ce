"""`kharcha run` on machines with and without logs."""

from __future__ import annotations

from kharcha_pipeline_tests.cli.terminal import SONNET, Terminal, response, write_three_days


def test_with_logs_it_syncs_them_and_shows_the_days(terminal: Terminal) -> None:
    write_three_days(terminal)
    outcome = terminal.kharcha("run")
    assert outcome.code == 0
    assert outcome.lines[0].startswith("Read 2 of 2 log files")
    assert outcome.out.endswith(terminal.kharcha("report").out)
    assert not (terminal.data / "demo").exists()


def test_called_again_it_does_no_work_and_shows_the_same_table(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("run")
    modified = {path: path.stat().st_mtime_ns for path in terminal.data.rglob("*")}
    again = terminal.kharcha("run")
    assert again.lines[0] == "Nothing changed: 2 log files are as the last sync left them."
    assert again.out.endswith(terminal.kharcha("report").out)
    assert {path: path.stat().st_mtime_ns for path in terminal.data.rglob("*")} == modified


def test_without_logs_it_shows_the_samples_and_says_so(terminal: Terminal) -> None:
    first = terminal.kharcha("run")
    assert first.code == 0
    assert first.lines[0].startswith("No agent has logs on this machine, so these are the bundled samples")
    assert str(terminal.data / "demo") in first.out
    again = terminal.kharcha("run")
    assert "Nothing changed" in again.out
    table = first.out[first.out.index("Daily usage") :]
    assert again.out.endswith(table)
    assert not (terminal.data / "warehouse.duckdb").exists()


def test_samples_never_mix_with_real_usage(terminal: Terminal) -> None:
    terminal.kharcha("run")
    write_three_days(terminal)
    demo = terminal.data / "demo"
    for command in ("sync", "run"):
        refused = terminal.kharcha(command, KHARCHA_DATA_DIR=str(demo))
        assert refused.code == 2
        assert "bundled samples, which are not mixed with real usage" in refused.err
    assert "session-1" not in terminal.kharcha("report", "session", "-f", "csv", KHARCHA_DATA_DIR=str(demo)).out
    assert terminal.kharcha("run").lines[0].startswith("Read 2 of 2 log files")
    assert terminal.kharcha("report", "-f", "json").json["total"]["events"] == 4


def test_the_users_own_roots_and_variables_do_not_reach_the_samples(terminal: Terminal) -> None:
    elsewhere = Terminal(terminal.home / "elsewhere", terminal.data)
    elsewhere.transcript("mine", response(1, "2026-11-02T09:00:00Z", SONNET, 1, 1))
    config = terminal.home / ".config/kharcha/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('machine = "desk"\n')
    terminal.kharcha("run", XDG_CONFIG_HOME=str(config.parent.parent))
    demo = str(terminal.data / "demo")
    rows = terminal.kharcha(
        "sql", "SELECT DISTINCT machine FROM daily_usage", "-f", "csv", KHARCHA_DATA_DIR=demo
    ).lines
    assert "desk" not in rows


def test_usage_whose_logs_are_gone_is_still_shown(terminal: Terminal) -> None:
    write_three_days(terminal)
    terminal.kharcha("run")
    for path in terminal.home.rglob("*.jsonl"):
        path.unlink()
    outcome = terminal.kharcha("run")
    assert "samples" not in outcome.out
    assert "2026-10-30" in outcome.out


def test_samples_follow_another_zone(terminal: Terminal) -> None:
    terminal.kharcha("run")
    assert "time zone Asia/Tokyo" in terminal.kharcha("run", KHARCHA_TIMEZONE="Asia/Tokyo").out
