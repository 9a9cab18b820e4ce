"""What a vendor said of one item at one time, as `accounts.sqlite` holds it, and which of several versions stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
"""Tokens or requests. Sums of a billion of the largest fit into a HUGEINT, and no vendor tells more."""


class VendorRequest(msgspec.Struct, frozen=True, omit_defaults=True, tag="event"):
    """Of one request as the vendor shows it, what usage is made of. Unknown is `None`."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    charged_usd: Decimal | None = None
    request_units: Decimal | None = None


class VendorBucket(msgspec.Struct, frozen=True, omit_defaults=True, tag="report"):
    """Of one row of a report, what usage is made of. Unknown is `None`."""

    model_raw: str = ""
    responses: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_5m_tokens: Count | None = None
    cache_write_1h_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    web_search_requests: Count | None = None
    unit: str = ""
    amount: Decimal | None = None
    currency: str = "USD"


class VendorVersion(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One version of one item.

    Attributes:
        made_at: when the store was made, in milliseconds.
        number: the version's id in that store.
        seen_at: when the answers that say so were fetched, in milliseconds.
        group: what never changes about the item.
        ordinal: tells items of one group apart.
        is_counted: whether the account's usage counts.
        content: `None` when the vendor shows the item no longer.
    """

    made_at: int
    number: int
    seen_at: int
    kind: Literal["event", "report"]
    account: str
    connector: str
    resource: str
    source: str
    group: tuple[str, ...]
    ordinal: int = 0
    at_ms: int
    is_counted: bool = True
    content: VendorRequest | VendorBucket | None = None

    @property
    def item(self) -> tuple[str, tuple[str, ...], int]:
        """Which item of its account it is a version of. Not the store's number: another store numbers anew."""
        return self.resource, self.group, self.ordinal

    @property
    def age(self) -> tuple[int, int, int]:
        """Of two versions of one item, the greater one is newer, also after a backup was put in the store's place."""
        return self.made_at, self.seen_at, self.number


def newest(said: Iterable[VendorVersion]) -> list[VendorVersion]:
    """The newest version of every item of one account's, in the order of items.

    What a later store says of a family replaces all that an earlier one said of it: it numbers twins anew.
    """
    versions = list(said)
    latest = max(version.made_at for version in versions)
    found: dict[tuple[str, tuple[str, ...], int], VendorVersion] = {}
    for version in versions:
        if version.made_at == latest:
            known = found.get(version.item)
            if known is None or version.age > known.age:
                found[version.item] = version
    return [found[item] for item in sorted(found)]


def by_account(said: Sequence[VendorVersion]) -> dict[tuple[str, str], list[VendorVersion]]:
    """The versions of each account and connector."""
    found: dict[tuple[str, str], list[VendorVersion]] = {}
    for version in said:
        found.setdefault((version.account, version.connector), []).append(version)
    return found
