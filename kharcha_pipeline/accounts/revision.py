"""What changed between what is stored of an account and what its vendor says now: pure functions.

Vendors give no ids to most things, revise amounts long after the fact, and show two equal requests in one
millisecond. So the items of one group, which share everything that never changes, are compared as a multiset
(`vendor-apis.md` §1.7): equal ones belong together, then those with equal counts, then the rest in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from kharcha_pipeline.accounts.items import (
    BillingPeriod,
    Invoice,
    ItemKind,
    ReportRow,
    VendorEvent,
    VendorItem,
)

FIRST_SEEN = "first seen"
REVISED = "revised"
VANISHED = "vanished"
RETURNED = "returned"
NORMALIZED_AGAIN = "normalized again"
RECOUNTED = "counted differently"
"""Why a version was written."""

MISSES: dict[ItemKind, int | None] = {
    "event": 3,
    "report": 1,
    "period": 1,
    "limit": 1,
    "invoice": None,
    "member": None,
}
"""After how many complete readings without it, one after the other, an item counts as vanished; `None`: never.

A bucket of a report is replaced as a whole, so is a period and what limits an account. Single events drop out of an
answer and come back. Invoices and people are facts of the past, also where a list does not go back that far.
"""

_UNGUARDED: frozenset[ItemKind] = frozenset({"limit", "member"})
"""Kinds of which a missing value says something: no limit is set."""

_FEWEST = 5
"""Rows that must be affected before a revision is called a mass revision."""

_ABOUT_PEOPLE = frozenset({"user", "name"})
"""Fields that vendors empty when somebody leaves: that is no revision of what was used."""


class Stored(NamedTuple):
    """An item as it is stored.

    Attributes:
        id: of the item, not of its version.
        group: what never changes about it.
        ordinal: its number within the group.
        item: what stands.
        is_shown: whether the vendor still showed it when it was last read completely.
        missed: how many complete readings were without it since.
        guarded: fields whose value stands although the vendor tells it no longer.
    """

    id: int
    group: tuple[str, ...]
    ordinal: int
    item: VendorItem
    is_shown: bool = True
    missed: int = 0
    guarded: frozenset[str] = frozenset()

    @property
    def told(self) -> VendorItem:
        """The item exactly as the vendor showed it last: by this, twins are told apart."""
        return msgspec.structs.replace(self.item, **dict.fromkeys(self.guarded)) if self.guarded else self.item


class Match(NamedTuple):
    """A stored item and what its vendor says of it now.

    Attributes:
        incoming: as the vendor says.
        item: what stands from now on: the same, but for values that were known and are told no longer.
        guarded: the fields of those.
    """

    stored: Stored
    incoming: VendorItem
    item: VendorItem
    guarded: frozenset[str] = frozenset()

    @property
    def is_changed(self) -> bool:
        """Whether another value stands from now on."""
        return self.item != self.stored.item


class Added(NamedTuple):
    """An item that was not stored yet, with its number within its group."""

    ordinal: int
    item: VendorItem


class Comparison(NamedTuple):
    """What became of the items of one window.

    Attributes:
        matches: stored items that the vendor shows.
        added: items that are new.
        missing: stored items that the vendor does not show; those that it did not show before are not among them.
    """

    matches: Sequence[Match]
    added: Sequence[Added]
    missing: Sequence[Stored]


def compare(stored: Iterable[Stored], incoming: Iterable[VendorItem], *, may_forget: bool = False) -> Comparison:
    """Compares what is stored with what the vendor says, group by group. The order of either does not matter.

    Args:
        stored: all items of the groups and the time that are compared.
        incoming: all items that the vendor shows of them.
        may_forget: a value that is no longer there is forgotten, unless it is one that was guarded before: for
            answers that were understood in another way, not for new answers.
    """
    before: dict[tuple[str, ...], list[Stored]] = {}
    for one in stored:
        before.setdefault(one.group, []).append(one)
    after: dict[tuple[str, ...], list[VendorItem]] = {}
    for item in incoming:
        after.setdefault(item.group, []).append(item)
    matches: list[Match] = []
    added: list[Added] = []
    missing: list[Stored] = []
    for group, items in after.items():
        pairs, fresh, absent = _compare_group(before.pop(group, []), items)
        matches += [_guarded(one, item, may_forget=may_forget) for one, item in pairs]
        added += fresh
        missing += absent
    for absent in before.values():
        missing += absent
    return Comparison(matches, added, [one for one in missing if one.is_shown])


def _compare_group(
    stored: list[Stored], incoming: list[VendorItem]
) -> tuple[list[tuple[Stored, VendorItem]], list[Added], list[Stored]]:
    if len(stored) == len(incoming) == 1:  # nearly always
        return [(stored[0], incoming[0])], [], []
    # Of several that would fit, those that are shown come first, and then the one with the smallest number.
    left = sorted(stored, key=lambda one: (not one.is_shown, one.ordinal))
    items = sorted(incoming, key=lambda item: (_order(item), msgspec.json.encode(item)))
    pairs: list[tuple[Stored, VendorItem]] = []
    for fits in (_is_equal, _has_equal_counts):
        items = _pair(left, items, fits, pairs)
    left.sort(key=lambda one: (not one.is_shown, _order(one.told), one.ordinal))
    pairs += zip(left, items, strict=False)
    taken = {one.ordinal for one in stored}
    free = (ordinal for ordinal in range(len(stored) + len(items)) if ordinal not in taken)
    added = [Added(next(free), item) for item in items[len(left) :]]
    return pairs, added, left[len(items) :]


def _pair(
    left: list[Stored],
    items: list[VendorItem],
    fits: Callable[[VendorItem, VendorItem], bool],
    pairs: list[tuple[Stored, VendorItem]],
) -> list[VendorItem]:
    """Takes pairs that fit out of what is left; returns the items that remain."""
    remaining = []
    for item in items:
        for position, one in enumerate(left):
            if fits(one.told, item):
                pairs.append((left.pop(position), item))
                break
        else:
            remaining.append(item)
    return remaining


def _is_equal(one: VendorItem, other: VendorItem) -> bool:
    return one == other


def _has_equal_counts(one: VendorItem, other: VendorItem) -> bool:
    return counts_of(one) == counts_of(other)


def _order(item: VendorItem) -> tuple[tuple[bool, int | Decimal], ...]:
    return tuple((count is None, count or 0) for count in counts_of(item))


def counts_of(item: VendorItem) -> tuple[int | Decimal | None, ...]:
    """What was used, which vendors revise more seldom than what it costs; nothing where an item counts nothing."""
    if isinstance(item, VendorEvent):
        return (item.input_tokens, item.output_tokens, item.cache_read_tokens, item.cache_write_tokens)
    if isinstance(item, ReportRow):
        return (
            item.input_tokens,
            item.output_tokens,
            item.cache_read_tokens,
            item.cache_write_5m_tokens,
            item.cache_write_1h_tokens,
            item.responses,
            item.quantity,
        )
    return ()


def amounts_of(item: VendorItem) -> tuple[Decimal | None, ...]:
    """What it cost, as far as the vendor says; nothing where an item costs nothing."""
    if isinstance(item, VendorEvent):
        return (item.charged_usd, item.model_cost_usd)
    if isinstance(item, ReportRow | Invoice):
        return (item.amount,)
    if isinstance(item, BillingPeriod):
        return (item.included_usd, item.on_demand_usd, item.total_usd)
    return ()


def _guarded(stored: Stored, incoming: VendorItem, *, may_forget: bool) -> Match:
    """A match in which no value that was known becomes unknown."""
    known = stored.item
    if incoming == known or kind_is_unguarded(incoming) or type(known) is not type(incoming):
        return Match(stored, incoming, incoming)
    kept = {
        name: getattr(known, name)
        for name in incoming.__struct_fields__
        if getattr(incoming, name) is None
        and getattr(known, name) is not None
        and (not may_forget or name in stored.guarded)
    }
    if not kept:
        return Match(stored, incoming, incoming)
    return Match(stored, incoming, msgspec.structs.replace(incoming, **kept), frozenset(kept))


def kind_is_unguarded(item: VendorItem) -> bool:
    """Whether a missing value of such an item says something itself."""
    return type(item).__struct_config__.tag in _UNGUARDED


def mass_revision(comparison: Comparison, *, is_closed: bool) -> str | None:
    """Why what a vendor says now should not be believed without a person: a sentence, or `None`.

    A vendor has set the amounts of a whole history to zero and taken it back a day later (`vendor-apis.md` §0.7).
    Values that were unknown and become known are settling, however many they are.

    Args:
        comparison: of one window; what is missing of it counts as gone.
        is_closed: whether its rows are not expected to change any more.
    """
    shown = [match for match in comparison.matches if match.stored.is_shown]
    valued = [match for match in shown if _has_amount(match.stored.told)]
    gone = [one for one in comparison.missing if _has_amount(one.told)]
    emptied = len(gone) + sum(_loses_amount(match) for match in valued)
    of = len(valued) + len(gone)
    if emptied >= _FEWEST and emptied * 2 > of:
        return f"{emptied} of {of} amounts would become zero or unknown, or their rows would go"
    if not is_closed:
        return None
    rows = len(shown) + len(comparison.missing)
    revised = len(comparison.missing) + sum(_is_revision(match) for match in shown)
    if revised >= _FEWEST and revised * 2 > rows:
        return f"{revised} of {rows} rows would change or go, although their time is closed"
    return None


def _has_amount(item: VendorItem) -> bool:
    return any(amount is not None and amount > 0 for amount in amounts_of(item))


def _loses_amount(match: Match) -> bool:
    pairs = zip(amounts_of(match.stored.told), amounts_of(match.incoming), strict=True)
    return any(before is not None and before > 0 and not after for before, after in pairs)


def _is_revision(match: Match) -> bool:
    """Whether something that was known is something else now."""
    before, after = match.stored.told, match.incoming
    return any(
        getattr(before, name) is not None and getattr(before, name) != getattr(after, name)
        for name in before.__struct_fields__
        if name not in _ABOUT_PEOPLE
    )
