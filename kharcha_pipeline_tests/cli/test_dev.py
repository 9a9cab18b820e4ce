"""`kharcha dev` hands over to Dagster, which stands here as a program that tells how it was started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kharcha_pipeline import locations
from kharcha_pipeline_tests.cli.terminal import Terminal

_DAGSTER = """
import json, os, sys
if sys.argv[1:3] != ["instance", "info"]:
    print(json.dumps({"arguments": sys.argv[1:], "home": os.environ["DAGSTER_HOME"], "umask": os.umask(0)}))
"""


@pytest.fixture
def with_dagster(terminal: Terminal, tmp_path: Path) -> Terminal:
    """A terminal whose Dagster only tells how it was started."""
    package = tmp_path / "programs/dagster"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(_DAGSTER)
    (package / "__init__.py").write_text("")
    terminal.variables["PYTHONPATH"] = str(package.parent)
    return terminal


def test_dagster_opens_this_project_in_its_home_inside_the_data_directory(with_dagster: Terminal) -> None:
    outcome = with_dagster.run("dev")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == {
        "arguments": ["dev", "--workspace", f"{locations.checkout()}/workspace.yaml"],
        "home": str(with_dagster.data / "dagster"),
        "umask": 0o077,
    }
    assert (with_dagster.data / "dagster/dagster.yaml").exists()


def test_further_options_are_passed_on(with_dagster: Terminal) -> None:
    said = json.loads(with_dagster.run("dev", "--port", "3001", "-h", "0.0.0.0").out)
    assert said["arguments"][3:] == ["--port", "3001", "-h", "0.0.0.0"]


def test_a_dagster_home_of_ones_own_is_used_as_it_is(with_dagster: Terminal, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    assert json.loads(with_dagster.run("dev", DAGSTER_HOME=str(own)).out)["home"] == str(own)
    assert list(own.iterdir()) == []


def test_wrong_settings_are_told_before_dagster_starts(with_dagster: Terminal) -> None:
    outcome = with_dagster.run("dev", KHARCHA_TIMEZONE="+01:00")
    assert (outcome.code, outcome.out) == (2, "")
