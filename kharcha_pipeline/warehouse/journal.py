"""A rollback journal for the one part of a DuckDB file that a checkpoint overwrites in place: its metadata blocks.

DuckDB writes changed data to free blocks and then switches to them by writing a new header. Only metadata is packed
many pieces to a block, and a block that still holds pieces in use is overwritten where it is. A process killed, or
a machine stopped, within that one write leaves a block whose checksum is wrong, and DuckDB (1.5 and 2.0 alike) never
opens the file again, although the write-ahead log beside it has all that is missing. So the metadata blocks are kept
in a file of their own before a checkpoint may begin, and are put back when one was interrupted.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from kharcha_pipeline.warehouse.engine import attached

HEADERS = 12_288
"""Bytes before the first block: the file's header and the two headers that DuckDB writes in turn."""

BLOCK = 262_144
"""Bytes of a block, DuckDB's default."""

_MAGIC, _MAGIC_AT = b"DUCK", 8
_DIGEST = 32
_BLOCK_NUMBER = struct.Struct("<Q")


@contextmanager
def guarded(path: Path, *, writes: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens a database file so that no interruption of a checkpoint can damage it.

    What an interrupted one damaged is put back first. The caller holds the lock of the file.

    Args:
        path: the database file, created when it is missing.
        writes: whether the caller commits anything.

    Raises:
        duckdb.Error: when the file cannot be opened or written.
        OSError: when the journal cannot be written.
    """
    _discard_unfinished(path)
    if path.exists() and not _is_kept(path):
        with attached(path) as connection:
            blocks = _metadata_blocks(connection)
        _keep(path, blocks)
    was_interrupted = _log(path).exists()
    if was_interrupted:
        _put_back(path)
    blocks = []
    mask = os.umask(0o077)  # the write-ahead log is created within the transaction
    try:
        with attached(path) as connection:
            yield connection
            if writes or was_interrupted:
                connection.execute("CHECKPOINT")
                blocks = _metadata_blocks(connection)
    finally:
        os.umask(mask)
    if blocks and not _is_kept(path):
        _keep(path, blocks)


def journal_path(path: Path) -> Path:
    """Where the journal of a database file is."""
    return Path(f"{path}.journal")


def _log(path: Path) -> Path:
    return Path(f"{path}.wal")


def _metadata_blocks(connection: duckdb.DuckDBPyConnection) -> list[int]:
    rows = connection.execute("SELECT DISTINCT block_id FROM pragma_metadata_info() ORDER BY block_id").fetchall()
    return [row[0] for row in rows]


def _discard_unfinished(path: Path) -> None:
    """Deletes a file whose creation ended before its headers were complete: nothing was ever in it."""
    if not path.exists() or path.stat().st_size >= HEADERS or _log(path).exists():
        return
    content = path.read_bytes()
    if content[_MAGIC_AT:].startswith(_MAGIC) or not content.strip(b"\0"):
        path.unlink()


def _is_kept(path: Path) -> bool:
    """Whether the journal belongs to the file as it is: no checkpoint was completed since."""
    try:
        with journal_path(path).open("rb") as journal, path.open("rb") as database:
            return journal.read(HEADERS) == database.read(HEADERS)
    except FileNotFoundError:
        return False


def _keep(path: Path, blocks: list[int]) -> None:
    """Writes the journal: the headers, the metadata blocks with their numbers, and a digest of it all."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    fresh = Path(f"{journal_path(path)}.new")
    with path.open("rb") as database, open(fresh, "wb", opener=private) as journal:
        pieces = [database.read(HEADERS)]
        for number in blocks:
            database.seek(HEADERS + number * BLOCK)
            pieces += [_BLOCK_NUMBER.pack(number), database.read(BLOCK)]
        for piece in pieces:
            digest.update(piece)
            journal.write(piece)
        journal.write(digest.digest())
        journal.flush()
        os.fsync(journal.fileno())
    os.replace(fresh, journal_path(path))
    synchronize(path.parent)


def _put_back(path: Path) -> None:
    """Writes the metadata blocks back, provided that the checkpoint they were kept for was not completed."""
    if not _is_kept(path):
        return
    content = journal_path(path).read_bytes()
    body = content[:-_DIGEST]
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != content[-_DIGEST:]:
        return
    with path.open("r+b") as database:
        for start in range(HEADERS, len(body), _BLOCK_NUMBER.size + BLOCK):
            block = start + _BLOCK_NUMBER.size
            database.seek(HEADERS + _BLOCK_NUMBER.unpack_from(body, start)[0] * BLOCK)
            database.write(body[block : block + BLOCK])
        database.flush()
        os.fsync(database.fileno())


def private(path: str, flags: int) -> int:
    """An opener: a file that it makes can be read by its owner alone."""
    return os.open(path, flags, 0o600)


def synchronize(path: Path) -> None:
    """Makes sure that a file, or what a directory says of new and renamed files, is there after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
