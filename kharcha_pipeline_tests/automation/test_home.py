"""Dagster's home: settings of ours, yours once edited, and ready for several processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from kharcha_pipeline.accounts.cycle import AT_ONCE_PER_VENDOR
from kharcha_pipeline.assets.vendor_accounts import POLLS, VENDOR
from kharcha_pipeline.automation.home import HomeError, dagster_home, prepare_home


def test_the_home_is_below_the_data_directory_unless_dagster_home_says_otherwise(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "KHARCHA_DATA_DIR": str(tmp_path / "data")}
    assert dagster_home(environment) == tmp_path / "data" / "dagster"
    assert dagster_home({**environment, "DAGSTER_HOME": "~/elsewhere"}) == tmp_path / "elsewhere"


def test_processes_that_start_at_once_on_an_empty_home_do_not_collide(tmp_path: Path) -> None:
    home = tmp_path / "data" / "dagster"
    program = f"""
import os, sys
from pathlib import Path
from kharcha_pipeline.automation.home import prepare_home
assert "dagster" not in sys.modules
prepare_home(Path({str(home)!r}))
import dagster
os.environ["DAGSTER_HOME"] = {str(home)!r}
with dagster.DagsterInstance.get() as instance:
    assert instance.get_runs() == []
"""
    started = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.wait(), process.communicate()[1]) for process in started] == [(0, b"")] * 3
    assert home.stat().st_mode & 0o077 == 0


def test_our_settings_are_dagster_s_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_home(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 5
        polls, vendors = queue.tag_concurrency_limits
        assert polls == {"key": POLLS, "limit": 3}  # so that two runs are always left for the days
        assert vendors == {"key": VENDOR, "value": {"applyLimitPerUniqueValue": True}, "limit": AT_ONCE_PER_VENDOR}
        assert instance.get_settings("telemetry") == {"enabled": False}
        assert instance.get_settings("freshness") == {"enabled": True}
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 2)


def test_edited_settings_and_the_caller_s_own_home_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "another"))
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: true\n")
    prepare_home(tmp_path)
    prepare_home(tmp_path)
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry:\n  enabled: true\n"
    assert not (tmp_path / "another").exists()


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="cannot be written"):
        prepare_home(tmp_path / "file" / "dagster")


def test_a_home_with_broken_settings_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("no_such_setting: 1\n")
    with pytest.raises(HomeError, match=str(tmp_path)):
        prepare_home(tmp_path)
