"""Exit codes, and which of them a failure means."""

from __future__ import annotations

import os
import sys

OK = 0
FAILURE = 1
USAGE = 2
"""Wrong arguments, settings, names or prices file: running it again does not help before something is corrected."""
CHECK_FAILED = 3

EXPLANATION = "Exit codes: 0 done, 1 failure, 2 wrong usage, settings or prices file, 3 a check failed."


def explained(error: Exception) -> tuple[str, int] | None:
    """The sentence and exit code for a failure that can be expected, `None` for a mistake of this program's own."""
    import duckdb

    from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError
    from kharcha_pipeline.automation.home import HomeError
    from kharcha_pipeline.ingest.errors import BusyError, IngestError, IngestUsageError
    from kharcha_pipeline.pricing.price_book import PriceFileError
    from kharcha_pipeline.pricing.repricing import RepriceError
    from kharcha_pipeline.settings import SettingsError
    from kharcha_pipeline.warehouse.lock import LockTimeoutError
    from kharcha_pipeline.warehouse.warehouse import WarehouseError

    if isinstance(error, SettingsError | PriceFileError | RepriceError | IngestUsageError | AccountsUsageError):
        return str(error), USAGE
    if isinstance(error, WarehouseError | LockTimeoutError | HomeError | IngestError | BusyError | AccountsError):
        return str(error), FAILURE
    if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException | duckdb.FatalException):
        return f"The database could not be used: {first_line(error)}.", FAILURE
    if isinstance(error, OSError):
        where = f"{error.filename} could not be used" if error.filename else "The operating system refused"
        return f"{where}: {error.strerror or type(error).__name__}.", FAILURE
    return None


def forget_output() -> None:
    """Drops what could not be printed, so that Python does not try again at its end and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def first_line(error: Exception) -> str:
    """What an exception says in its first line, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
