"""Tells people what they have to know about accounts, once: through apprise, which knows about 130 kinds of places.

The store decides what is a notice: one for each change to a state that needs a person, one for each reading that is
held back, one for a credential that ends soon. Here it is only told. An alert that cannot be delivered stays pending,
and never fails a poll.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from kharcha_pipeline.accounts.clock import Clock
from kharcha_pipeline.accounts.credentials import Secret, resolve
from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError
from kharcha_pipeline.accounts.store import AccountStore, Notice
from kharcha_pipeline.warehouse.lock import LockTimeoutError, exclusive

LONGEST_WAIT = 30.0
"""Seconds to wait for another process that is telling; what it does not tell is told after the next poll."""


def tell(
    store: AccountStore, references: Sequence[str], clock: Clock, environment: Mapping[str, str], relative_to: Path
) -> list[str]:
    """Tells all pending notices; returns what went wrong, as sentences. Without any address nobody is told.

    A notice is told when one address took it: else an address that is down for a week would have it told to all
    others again and again.

    Args:
        store: which notices.
        references: addresses as apprise understands them, or references of such, as `accounts.toml` has them.
        clock: tells when they were told.
        environment: where `env:` references look.
        relative_to: where relative paths of `file:` references begin.
    """
    if not store.pending_notices():
        return []
    if not references:
        for notice in store.pending_notices():
            store.told(notice.id, clock.now_ms())
        return []
    try:
        with exclusive(store.path.with_name("alerts.lock"), "tell alerts", LONGEST_WAIT):
            return _told(store, references, clock, environment, relative_to)
    except LockTimeoutError:
        return []


def _told(
    store: AccountStore, references: Sequence[str], clock: Clock, environment: Mapping[str, str], relative_to: Path
) -> list[str]:
    addresses: list[tuple[int, Secret]] = []
    problems = []
    for number, reference in enumerate(references, 1):
        try:
            addresses.append((number, resolve(reference, environment, relative_to)))
        except (AccountsError, AccountsUsageError) as error:
            problems.append(f"The alert address {number} of accounts.toml cannot be used. {error}")
    failed: set[int] = set()
    for notice in store.pending_notices():
        took = [number for number, address in addresses if number not in failed and _sent(address, notice)]
        failed |= {number for number, _ in addresses} - set(took)
        if took:
            store.told(notice.id, clock.now_ms())
    problems += [
        f"The alert address {number} of accounts.toml could not be reached; see that it is right."
        for number in sorted(failed)
    ]
    return problems


def _sent(address: Secret, notice: Notice) -> bool:
    """Sends one notice to one address; its own complaints are left out, for they may quote the address."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    try:
        target = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Kharcha Pipeline", async_mode=False))
        if not target.add(address.reveal()):
            return False
        return bool(
            target.notify(
                title=f"Kharcha Pipeline: account {notice.account}",
                body=notice.sentence,
                notify_type=apprise.NotifyType.WARNING,
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
    except Exception:
        return False
