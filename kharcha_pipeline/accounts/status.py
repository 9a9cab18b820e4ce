"""How accounts are, and what waits for people: what the store answers with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.states import State


class Configured(NamedTuple):
    """What the settings say of an account, with the connector's defaults filled in."""

    name: str
    connector: str
    vendor: str
    source: str
    label: str
    owner: str
    counted: bool
    local_sources: Sequence[str]
    local_account: str | None
    tolerance_percent: int
    is_enabled: bool


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How an account is. Instants are milliseconds since the epoch, `None` where there was none.

    Attributes:
        events: usage events that the vendor shows.
        held: readings that wait for a person.
        unavailable: resources that this account may not ask for, with why.
        notes: what was noticed in the answers that stand, with how often.
    """

    name: str
    connector: str
    vendor: str
    source: str
    label: str
    owner: str
    counted: bool
    local_sources: tuple[str, ...]
    local_account: str | None
    tolerance_percent: int
    is_configured: bool
    is_enabled: bool
    state: State
    state_since: int | None
    until: int | None
    sentence: str
    fingerprint: str
    credential_expires: int | None
    last_attempt: int | None
    last_success: int | None
    next_poll: int | None
    events: int
    held: int
    unavailable: dict[str, str]
    notes: dict[str, int]


class Held(NamedTuple):
    """A reading that waits for a person: nothing of it was applied.

    Attributes:
        id: what `decide` takes.
        sentence: why.
    """

    id: int
    account: str
    resource: str
    window: Window
    fetched_ms: int
    held_ms: int
    sentence: str


class Notice(NamedTuple):
    """Something to tell people once.

    Attributes:
        subject: what it is about: `state`, `held`, `drift`, `expiry`.
    """

    id: int
    account: str
    subject: str
    sentence: str
    at_ms: int
