"""Numbers, amounts and paths as people read them. Amounts stay decimals up to their last digit on the screen."""

from __future__ import annotations

import os
from decimal import ROUND_HALF_EVEN, Decimal

_CENT = Decimal("0.01")
UNPRICED = "unpriced"


def dollars(amount: Decimal | None) -> str:
    """An amount in USD, rounded to cents; never `0.00` for what is unknown or merely small."""
    if amount is None:
        return UNPRICED
    if 0 < amount <= _CENT / 2:  # half a cent itself would be rounded to the even 0.00
        return "<0.01"
    return f"{amount.quantize(_CENT, ROUND_HALF_EVEN):,}"


def exact(amount: Decimal | None) -> str | None:
    """An amount as a decimal string with every digit, for machines."""
    return None if amount is None else format(amount, "f")


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun: `1 file`, `1,204 files`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def bytes_of(size: int) -> str:
    """A size in bytes, in the unit that suits it."""
    if size < 1_000:
        return counted(size, "byte")
    power = min((len(str(size)) - 1) // 3, 4)
    tenths = size * 10 // 1_000**power
    return f"{tenths // 10:,}.{tenths % 10} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def short_path(path: str, home: str) -> str:
    """A path with the home directory as `~`."""
    if path == home or path.startswith(home.rstrip(os.sep) + os.sep):
        return "~" + path[len(home.rstrip(os.sep)) :]
    return path
