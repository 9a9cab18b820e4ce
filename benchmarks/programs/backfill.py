"""Runs the job `build` for a range of days in one Dagster run, as a backfill of the five daily assets does.

python -m benchmarks.programs.backfill FIRST LAST
"""

from __future__ import annotations

import sys

import dagster as dg

from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.automation.requests import RANGE_END, RANGE_START
from kharcha_pipeline.definitions import defs


def main() -> None:
    """Fails unless every partition of every asset is materialized afterwards."""
    first, last = sys.argv[1:]
    assets = [dg.AssetKey(stage.name) for stage in DAILY_STAGES]
    with dg.DagsterInstance.get() as instance:
        defs.resolve_job_def("build").execute_in_process(
            instance=instance, tags={RANGE_START: first, RANGE_END: last}, asset_selection=assets
        )
        print(*(len(instance.get_materialized_partitions(asset)) for asset in assets))


if __name__ == "__main__":
    main()
