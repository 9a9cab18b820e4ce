"""Extracts from the installed genai-prices what the pipeline asks of it, so that a sync need not import it.

    make catalogue

To be run when the version in `constraints.txt` changes. The file has a line for each model, so that its difference
shows which prices changed. A test fails when it is not what this writes.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from kharcha_pipeline.pricing import catalogue, price_lists

FILE = Path(price_lists.__file__).with_name("catalogue.json")


def extract() -> str:
    """The content of the file, from the installed package."""
    lists = ",\n".join(f'"{name}": {bytes(listed).decode()}' for name, listed in price_lists.installed().items())
    return (
        f'{{"version": "{importlib.metadata.version(catalogue.SOURCE)}",\n'
        f'"data_sha256": "{catalogue.data_sha256()}",\n'
        f'"lists": {{\n{lists}\n}}}}\n'
    )


def main() -> None:
    """Writes the file anew and says how large it is."""
    FILE.write_text(extract(), encoding="utf-8")
    sys.stdout.write(f"{FILE.name}: {FILE.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
