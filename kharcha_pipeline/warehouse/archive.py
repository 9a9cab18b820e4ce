"""The archive: raw usage records in compressed batches, in a file beside the warehouse that only ever grows.

They are not in the database, because DuckDB writes the last 122,880 rows of a table anew whenever something is
appended to it, so that the smallest sync would copy a hundred megabytes. The database holds where each batch is, and
is the truth: bytes that it does not know were written by a landing that never ended, and are dead. Batches are on the
disk before the transaction that knows them is committed, and nothing that was written is ever changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from kharcha_pipeline.warehouse.journal import private, synchronize

COMPRESSION = 1
"""zstd's level: a tenth larger than its default, in two thirds of the time."""


class ArchiveError(Exception):
    """The archive is not what the warehouse says it is. The message is a sentence for the user."""


class Span(NamedTuple):
    """Where a batch lies, in bytes."""

    position: int
    size: int


class Archive:
    """The file of one data directory. Whoever appends to it is alone: the landing, within its transaction."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "usage_records.zst"

    def append(self, batches: Iterable[bytes], known: int) -> list[Span]:
        """Writes batches at the end, and makes sure that they are on the disk.

        Args:
            batches: what to store, best made one by one: each is packed before the next one is asked for.
            known: where the last batch that the warehouse knows ends; 0 when there is none.

        Raises:
            ArchiveError: when the file is shorter than that.
            OSError: when it cannot be written.
        """
        import zstandard  # whoever only asks for numbers does without

        pack = zstandard.ZstdCompressor(level=COMPRESSION, write_checksum=True).compress
        frames = [pack(batch) for batch in batches]
        is_new = not self.path.exists()
        with open(self.path, "ab", opener=private) as stream:
            start = stream.tell()
            self._refuse_missing(start, known)
            stream.write(b"".join(frames))
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            synchronize(self.path.parent)
        ends = list(accumulate(map(len, frames), initial=start))
        return [Span(position, end - position) for position, end in pairwise(ends)]

    def read(self, spans: Iterable[Span]) -> Iterator[bytes]:
        """The batches that lie there, in the order asked for.

        Raises:
            ArchiveError: when the file is missing, too short or damaged.
            OSError: when it cannot be read.
        """
        import zstandard

        stream = None
        unpack = zstandard.ZstdDecompressor().decompress
        try:
            for position, size in spans:
                if stream is None:
                    self._refuse_missing(self.path.stat().st_size if self.path.exists() else 0, position + size)
                    stream = self.path.open("rb")
                stream.seek(position)
                try:
                    yield unpack(stream.read(size))
                except (zstandard.ZstdError, MemoryError) as error:
                    raise ArchiveError(
                        f"{self.path} is damaged at byte {position}. Restore it from a backup of the data directory."
                    ) from error
        finally:
            if stream is not None:
                stream.close()

    def _refuse_missing(self, size: int, needed: int) -> None:
        if size < needed:
            raise ArchiveError(
                f"{self.path} has {size:,} bytes, but the warehouse knows of {needed:,}. It belongs to "
                "warehouse.duckdb: restore both from the same backup of the data directory."
            )
