"""What can go wrong at the doors. Standard library only: the command line looks these up after any failure."""

from __future__ import annotations


class IngestError(Exception):
    """Rows could not be sent or taken in, or an account could not be changed. The message is a sentence."""


class IngestUsageError(Exception):
    """Something was asked for that cannot be: running it again does not help. The message is a sentence."""


class BusyError(Exception):
    """A database of the doors is locked, or the disk is full: it may work in a while. The message is a sentence."""
