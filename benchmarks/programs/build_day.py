"""Builds one day through all stages in a fresh process, and prints the CPU seconds of the database work.

    python -m benchmarks.programs.build_day DAY

From opening the warehouse to closing it. Starting, importing and loading prices are left out: they would be the
larger part, are the same in a history of any length, and would hide what is not.
"""

from __future__ import annotations

import sys
import time
from datetime import date

from kharcha_pipeline import stages
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.warehouse.warehouse import Warehouse


def main() -> None:
    """Prints CPU seconds and the number of events of the day."""
    day = date.fromisoformat(sys.argv[1])
    settings = load_settings()
    warehouse, prices = Warehouse(settings.data_directory), PriceSources.load(settings.prices)
    before_all_logs = date(2020, 1, 1)
    stages.build(warehouse, prices, [before_all_logs])  # empty: loads whatever a build loads
    started = time.process_time()
    built = stages.build(warehouse, prices, [day])
    print(time.process_time() - started, built.statistics["priced_events"][day].rows)


if __name__ == "__main__":
    main()
