"""Whatever happens to a line, a row, a page or a file: no reader fails, and nothing beside the damage is lost.

`python -m kharcha_pipeline_tests.hostile.fuzz` goes on for as long as it is told to, guided by coverage where atheris
is installed; `make torture` does that for every kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kharcha_pipeline_tests.hostile.cases import Case, cases
from kharcha_pipeline_tests.hostile.fuzz import NAMES
from kharcha_pipeline_tests.hostile.subjects import write_subjects

EXAMPLES = 60
"""For each kind of file; one takes about ten milliseconds."""


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Case]:
    directory = tmp_path_factory.mktemp("fuzz")
    return dict(cases(write_subjects(directory / "home"), directory))


def test_every_kind_of_file_is_fuzzed(everything: Mapping[str, Case]) -> None:
    assert set(everything) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damage_costs_nothing_but_what_is_damaged(everything: Mapping[str, Case], name: str, seed: int) -> None:
    everything[name](Random(seed))
