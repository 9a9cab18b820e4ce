"""Makes the warehouse of the present schema version that later versions must be able to bring up to date.

    python -m kharcha_pipeline_tests.torture.make_warehouse

To be run once for every schema version, before it is released. What was released is never made again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import zstandard

from kharcha_pipeline.warehouse.migrations import newest_version
from kharcha_pipeline_tests.corpus import Truth, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine

WAREHOUSES = Path(__file__).with_name("warehouses")
SEED = 21


def write_logs(home: Path) -> Truth:
    """The logs from which the warehouses were made: the same for ever."""
    return write_corpus(home, SEED, 12, 6, LAST_DAY)


def warehouse_of(version: int) -> Path:
    """Where the warehouse of a schema version is, compressed."""
    return WAREHOUSES / f"schema_{version}.duckdb.zst"


def archive_of(version: int) -> Path:
    """Where its archive is; there is none before version 2."""
    return WAREHOUSES / f"schema_{version}.usage_records.zst"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine.below(Path(directory))
        write_logs(machine.home)
        machine.sync()
        content = machine.warehouse.path.read_bytes()
        archived = machine.warehouse.archive.path.read_bytes()
    target = warehouse_of(newest_version())
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(zstandard.compress(content, 19))
    archive_of(newest_version()).write_bytes(archived)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
