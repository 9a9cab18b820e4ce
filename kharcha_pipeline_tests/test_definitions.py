"""The code location loads as a server loads it, and holds what others rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from kharcha_pipeline import locations
from kharcha_pipeline.definitions import build_definitions
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline_tests.machine import Machine

DAILY = ["usage_records", "usage_events", "pricing_snapshots", "priced_events", "session_usage", "daily_usage"]


@pytest.fixture
def definitions(tmp_path: Path) -> dg.Definitions:
    return build_definitions(Machine.below(tmp_path).settings)


def spec(definitions: dg.Definitions, name: str) -> dg.AssetSpec:
    (found,) = [one for one in definitions.resolve_all_asset_specs() if one.key == dg.AssetKey(name)]
    return found


def test_a_server_loads_the_workspace_of_a_checkout_without_a_warehouse(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").touch()
    checkout = locations.checkout()
    assert checkout is not None
    subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        env={**os.environ, **machine.environment, "DAGSTER_HOME": str(home)},
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    assert not machine.data.exists()


def test_assets_are_named_like_tables(definitions: dg.Definitions) -> None:
    assert {key.to_user_string() for key in definitions.resolve_all_asset_keys()} == {
        "log_files",
        "vendor_accounts",
        *DAILY,
        "kharcha_database",
    }


def test_all_daily_assets_share_one_partitions_definition(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    shared = {id(graph.get(dg.AssetKey(name)).partitions_def) for name in DAILY}
    assert len(shared) == 1
    partitions = graph.get(dg.AssetKey("daily_usage")).partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    assert partitions.get_first_partition_key() == "2020-01-01"
    assert (partitions.end_offset, partitions.timezone) == (1, "UTC")
    assert {graph.get(dg.AssetKey(name)).backfill_policy for name in DAILY[1:]} == {dg.BackfillPolicy.single_run()}


def test_the_graph_is_the_data_s_way(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in definitions.resolve_all_asset_keys()
    }
    assert parents == {
        "log_files": set(),
        "vendor_accounts": set(),
        "usage_records": {"log_files", "vendor_accounts"},
        "usage_events": {"usage_records"},
        "pricing_snapshots": {"usage_events"},
        "priced_events": {"usage_events", "pricing_snapshots"},
        "session_usage": {"priced_events"},
        "daily_usage": {"priced_events"},
        "kharcha_database": set(DAILY[1:]),
    }


def test_every_asset_says_whose_it_is_and_what_it_is(definitions: dg.Definitions) -> None:
    for one in definitions.resolve_all_asset_specs():
        assert one.description
        assert one.owners == ["team:data"]
        assert one.group_name in {"landing", "events", "pricing", "rollups", "published"}
        assert one.kinds
        assert one.tags["layer"] == one.group_name


def test_columns_and_their_comments_come_from_the_database(definitions: dg.Definitions) -> None:
    for name in [*DAILY[1:], "log_files"]:
        schema = spec(definitions, name).metadata["dagster/column_schema"].schema
        assert all(column.description for column in schema.columns)
    columns = {column.name: column for column in schema.columns}
    assert columns["path"].description == "Where the file is, or was."
    assert not columns["path"].constraints.nullable


def test_jobs_schedules_sensors_and_checks_are_there(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    names = {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"}
    assert names == {"land", "poll_accounts", "build", "publish", "sync", "inspect"}
    assert {one.name for one in repository.schedule_defs} == {"hourly_landing", "nightly_close", "nightly_inspection"}
    assert {one.name for one in repository.sensor_defs} == {"stale_days", "accounts_due", "run_failed"}
    running = [*repository.schedule_defs, *repository.sensor_defs]
    assert {one.default_status.value for one in running} == {"RUNNING"}
    checks = definitions.resolve_asset_graph().asset_check_keys
    assert len(checks) == 12


def test_the_zone_is_asked_for_or_the_warehouse_s_own(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="Asia/Kolkata")
    machine.sync()
    environment = machine.environment
    del environment["KHARCHA_TIMEZONE"]
    graph = build_definitions(load_settings(environment)).resolve_asset_graph()
    partitions = graph.get(dg.AssetKey("daily_usage")).partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    assert partitions.timezone == "Asia/Kolkata"


def test_a_replacement_of_a_resource_is_used(tmp_path: Path) -> None:
    told: list[str] = []
    definitions = build_definitions(Machine.below(tmp_path).settings, alert=told.append)
    assert definitions.resources is not None
    assert definitions.resources["alert"] == told.append
