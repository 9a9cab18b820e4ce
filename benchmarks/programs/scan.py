"""Reads every log of every source, as a first landing does, and keeps nothing: no settlement and no warehouse."""

from __future__ import annotations

import gc

from kharcha_pipeline.records import LogFile
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.sources.scanner import places, sweep_places


def main() -> None:
    """Prints the number of usage records found."""
    sources = {source.name: source for source in SOURCES}
    files = sweep_places(places(SOURCES, load_settings())).files
    gc.disable()  # as the landing does: reading makes no cycles
    records = 0
    for number, file in enumerate(files):
        log_file = LogFile(path=file.path, sequence=f"{number}.0", modified_ms=file.modified_ns // 1_000_000)
        records += len(sources[file.source].read(log_file).records)
    print(records)


if __name__ == "__main__":
    main()
