"""Hands many Python rows to DuckDB through a temporary file of JSON lines: far faster than binding them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_PREFIX = "spill-"
_LARGEST_ROW = 512 * 1024 * 1024


@contextmanager
def spilled(directory: Path, rows: Iterable[msgspec.Struct], columns: dict[str, str]) -> Iterator[str]:
    """Writes the rows to a file below `directory` and yields a table expression that reads it.

    Args:
        directory: where the temporary file is made; it is deleted afterwards.
        rows: structs whose field names are the column names.
        columns: column name → DuckDB type. A column that a row leaves out is NULL.
    """
    descriptor, path = tempfile.mkstemp(prefix=_PREFIX, suffix=".ndjson", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            encoder = msgspec.json.Encoder()
            waiting: list[msgspec.Struct] = []
            for row in rows:
                waiting.append(row)
                if len(waiting) >= 10_000:
                    stream.write(encoder.encode_lines(waiting))
                    waiting.clear()
            stream.write(encoder.encode_lines(waiting))
        quoted = path.replace("'", "''")
        types = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
        yield (
            f"read_json('{quoted}', format = 'newline_delimited', maximum_object_size = {_LARGEST_ROW}, "
            f"columns = {{{types}}})"
        )
    finally:
        Path(path).unlink(missing_ok=True)


def remove_spilled(directory: Path) -> None:
    """Deletes what killed processes left behind. Only whoever is alone in spilling to the directory may do so."""
    for path in directory.glob(f"{_PREFIX}*.ndjson"):
        path.unlink(missing_ok=True)
