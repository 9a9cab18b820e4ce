"""Tells a Dagster that knows nothing of every day that a sync built, as the sensor's ticks do one after the other.

Prints the seconds it takes and the number of materializations told.
"""

from __future__ import annotations

import time

import dagster as dg

from kharcha_pipeline.assets.partitions import daily_partitions
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.automation.reporting import report_built_days
from kharcha_pipeline.automation.sensors import SECONDS_FOR_REPORTS
from kharcha_pipeline.settings import load_settings


def main() -> None:
    """Prints seconds and materializations."""
    pipeline = Pipeline(load_settings())
    pipeline.forget_reported()
    partitions = daily_partitions(pipeline.zone())
    with dg.DagsterInstance.get() as instance:
        started = time.perf_counter()
        told = 0
        while more := report_built_days(instance, pipeline, partitions, SECONDS_FOR_REPORTS):
            told += more
        print(time.perf_counter() - started, told)


if __name__ == "__main__":
    main()
