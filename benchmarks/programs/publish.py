"""Publishes a warehouse, and prints how long it took, how long others were kept out, and how large the file is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.warehouse import warehouse as module
from kharcha_pipeline.warehouse.warehouse import Warehouse


class Locks:
    """Times how long the warehouse's own lock is held."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._exclusive = vars(module)["exclusive"]

    @contextmanager
    def exclusive(self, path: Path, *arguments: Any) -> Iterator[None]:
        """The product's lock, timed when it is that of the warehouse."""
        with self._exclusive(path, *arguments):
            started = time.perf_counter()
            try:
                yield
            finally:
                if path.name == "warehouse.lock":
                    self.seconds += time.perf_counter() - started


def main() -> None:
    """Prints seconds of publishing, seconds under the lock, and bytes of the warehouse."""
    warehouse = Warehouse(load_settings().data_directory)
    with warehouse.write():  # every transaction counts as a change, so there is something to publish
        pass
    locks = Locks()
    vars(module)["exclusive"] = locks.exclusive
    started = time.perf_counter()
    if not warehouse.publish():
        raise SystemExit("There was nothing to publish.")
    print(time.perf_counter() - started, locks.seconds, warehouse.path.stat().st_size)


if __name__ == "__main__":
    main()
