"""The one small interface of a vendor's module: what can be asked, how, and what the answers mean.

Reading and understanding are apart. `read` asks until a window is complete and hands out answers as they came;
`normalize` makes items of them and of nothing else, so that it can be done again with answers that were kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from kharcha_pipeline.accounts.failures import Failure
from kharcha_pipeline.accounts.items import ItemKind, Member, VendorItem


class Window(NamedTuple):
    """A span of time `[from_ms, until_ms)`, in milliseconds since the epoch."""

    from_ms: int
    until_ms: int


SNAPSHOT = Window(0, 0)
"""The window of a resource that describes the present."""


class Rate(NamedTuple):
    """At most `requests` in any `seconds`, as the vendor documents or as is prudent."""

    requests: int
    seconds: float


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Credentials are no part of it: the session adds them, so it can be stored as it is.

    Attributes:
        path: below the account's base URL, e.g. `/teams/members`; an absolute address only for another host of the
            same vendor.
        query: name and value pairs, in order; names may repeat.
        body: for POST, sent as JSON.
        budget: by which of the connector's rates it counts.
        headers: what this request alone needs.
        is_bare: sent without any credential, as to signed download links.
    """

    method: Literal["GET", "POST"] = "GET"
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    budget: str = "default"
    headers: tuple[tuple[str, str], ...] = ()
    is_bare: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer as it came.

    Attributes:
        request: what it answers.
        status: the HTTP status.
        headers: names in lower case; `set-cookie` is never among them.
        body: decoded from its transfer and content encoding.
        fetched_ms: when it was complete.
    """

    request: Request
    status: int
    headers: dict[str, str]
    body: bytes
    fetched_ms: int

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Session(Protocol):
    """One account's way to its vendor: credentials, egress, rate, retries and deadline are its own business."""

    def send(self, request: Request) -> Answer:
        """Sends a request and returns a successful answer (2xx) of JSON, or of what the connector accepts.

        Raises:
            Failure: one of its kinds, after all attempts that make sense.
        """
        ...

    def now_ms(self) -> int:
        """The instant now."""
        ...


class Resource(NamedTuple):
    """Something that can be asked of a vendor.

    Attributes:
        name: e.g. `events`; unique within the connector, and part of what is stored.
        kind: what its answers hold.
        span: longest window of one reading, `None` for a snapshot of the present.
        lookback: how far back is read again in every cycle, since vendors revise what they said.
        deep_lookback: how far back is read again once a day.
        history: how far back is read when an account is new.
        retention: how far back the vendor can be asked at all; `None` when it does not say.
        alignment: what windows begin and end with, in UTC; a window that reaches into the present ends now.
        lag: how far from now the vendor's data are not there yet.
        every: not asked more often than this.
        is_optional: whether an account may lack it (by plan or permission) without anything being wrong.
    """

    name: str
    kind: ItemKind
    span: timedelta | None = None
    lookback: timedelta = timedelta(days=3)
    deep_lookback: timedelta = timedelta(days=31)
    history: timedelta = timedelta(days=90)
    retention: timedelta | None = None
    alignment: Literal["minute", "day", "month"] = "day"
    lag: timedelta = timedelta()
    every: timedelta = timedelta()
    is_optional: bool = False


class Normalized(NamedTuple):
    """What the answers of one window say.

    Attributes:
        items: all of one kind, inside the window.
        notes: what was noticed, with how often: `new field "x"`, `outside the window`. Never quotes values but names.
        rejects: rows that could not be used, a fixed phrase each.
        is_suspicious: complete, but in a form that vendors also use when something is wrong (`{}`): what is stored
            and not in it is not taken for vanished.
        refreshed_ms: up to when the vendor says its data are complete, if it says so.
    """

    items: Sequence[VendorItem]
    notes: Mapping[str, int] = {}
    rejects: Sequence[str] = ()
    is_suspicious: bool = False
    refreshed_ms: int | None = None


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="connector"):
    """What `accounts.toml` says of an account. Each connector's own class adds what it needs, and its tag.

    Attributes:
        secret: reference to the credential: `env:NAME`, `file:PATH` or `keyring:NAME`; never the credential.
        label: how people call the account.
        owner: who answers for it.
        schedule: when to poll, as five cron fields in UTC; by default the connector's.
        lookback_days: instead of the connector's look-back.
        history_days: how far back a new account is read, instead of the connector's.
        proxies: addresses or references of proxies; none for direct egress.
        base_url: instead of the vendor's address.
        is_enabled: `false` keeps history and makes no request.
        counted: whether its usage counts in the daily tables; by default the connector's.
        local_sources: sources whose events are the same calls, seen by agents' logs; for the reconciliation.
        local_account: account label of those events; by default any.
        tolerance_percent: difference that a reconciliation takes for explained.
        deadline_seconds: how long a cycle may take.
    """

    secret: str
    label: str = ""
    owner: str = ""
    schedule: str = ""
    lookback_days: int | None = None
    history_days: int | None = None
    proxies: tuple[str, ...] = ()
    base_url: str = ""
    is_enabled: bool = msgspec.field(default=True, name="enabled")
    counted: bool | None = None
    local_sources: tuple[str, ...] | None = None
    local_account: str | None = None
    tolerance_percent: int = 1
    deadline_seconds: int = 600


class Connector(Protocol):
    """A vendor's module. Adding a vendor is one module with one such object, its page and its fixtures."""

    @property
    def name(self) -> str:
        """How `accounts.toml` calls it, e.g. `cursor-team`; the tag of its settings."""
        ...

    @property
    def title(self) -> str:
        """The name people know."""
        ...

    @property
    def vendor(self) -> str:
        """The company behind it: connectors of one vendor share the limit on runs at a time."""
        ...

    @property
    def source(self) -> str:
        """The source of usage events made of it, e.g. `cursor`."""
        ...

    @property
    def warning(self) -> str:
        """What the owner should know before using it, shown by `accounts check` and `login`; usually empty."""
        ...

    @property
    def settings_type(self) -> type[AccountSettings]:
        """The account's settings."""
        ...

    @property
    def base_url(self) -> str:
        """The vendor's address."""
        ...

    @property
    def schedule(self) -> str:
        """Default schedule, five cron fields in UTC."""
        ...

    @property
    def rates(self) -> Mapping[str, Rate]:
        """Limits by budget; `default` is always among them."""
        ...

    @property
    def is_counted(self) -> bool:
        """Whether usage counts in the daily tables by default: only where no agent's log shows the same calls."""
        ...

    @property
    def local_sources(self) -> Sequence[str]:
        """Sources whose events may be the same calls, by default; a provider's name behind `provider:` for any."""
        ...

    def resources(self, settings: Any) -> Sequence[Resource]:
        """What can be asked of this account, most important first."""
        ...

    def authorization(self, secret: str, settings: Any) -> Mapping[str, str]:
        """The headers that carry the credential, and what every request needs besides.

        Raises:
            AccountsUsageError: when the credential cannot be one of this vendor; the message never quotes it.
        """
        ...

    def expires_ms(self, secret: str) -> int | None:
        """When the credential says it expires, if it says so."""
        ...

    def probe(self, session: Session, settings: Any) -> Sequence[Member]:
        """The cheapest request that only a good credential answers. Returns whose account it is, where known.

        Raises:
            Failure: `Misconfigured` when it is another account than configured; others as they come.
        """
        ...

    def classify(self, answer: Answer) -> Failure | None:
        """What an answer means where the general rules would be wrong; `None` leaves it to them."""
        ...

    def read(self, session: Session, settings: Any, resource: Resource, window: Window) -> Sequence[Answer]:
        """All answers of one window, read until they are complete and fit together.

        Raises:
            Failure: when that cannot be done; nothing of the window is used then.
        """
        ...

    def normalize(self, settings: Any, resource: Resource, window: Window, answers: Sequence[Answer]) -> Normalized:
        """What answers say: a pure function of them.

        Raises:
            Drifted: when an answer has not the shape that is known.
        """
        ...
