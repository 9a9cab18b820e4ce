"""What every vendor's key has in common."""

from __future__ import annotations

from kharcha_pipeline.accounts.failures import AccountsUsageError


def check_key(secret: str, connector: str) -> None:
    """Refuses what can be no key and would break a header.

    Raises:
        AccountsUsageError: with a sentence that does not quote it.
    """
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise AccountsUsageError(
            f"The secret of a {connector} account cannot be a key: it is empty, or holds blanks or other characters "
            "that no key has. Check what the reference leads to."
        )
