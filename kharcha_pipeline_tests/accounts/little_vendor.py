"""A vendor as small as one can be, its connector, and a house with accounts of it: for what is the same for all."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import msgspec

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, Clock
from kharcha_pipeline.accounts.configuration import Account
from kharcha_pipeline.accounts.connector import (
    AccountSettings,
    Answer,
    Normalized,
    Rate,
    Request,
    Resource,
    Session,
    Window,
)
from kharcha_pipeline.accounts.cycle import Polled, configured, poll, poll_all
from kharcha_pipeline.accounts.failures import Drifted, Failure, Misconfigured
from kharcha_pipeline.accounts.items import Limit, Member, VendorEvent
from kharcha_pipeline.accounts.store import AccountStatus, AccountStore
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Received, Reply, TurnedClock, VendorServer

EVENTS = Resource(
    "events", "event", span=timedelta(days=1), history=timedelta(days=20), deep_lookback=timedelta(days=10)
)
LIMITS = Resource("limits", "limit")
MEMBERS = Resource("members", "member", is_optional=True)
PAGE = 3


class LittleSettings(AccountSettings, tag="little", frozen=True, kw_only=True):
    """What an account of the little vendor needs: whose it is."""

    user_id: str = ""


@dataclass(frozen=True)
class Little:
    """The little vendor's connector."""

    vendor: str = "little"
    name: str = "little"
    title: str = "The little vendor"
    source: str = "little"
    warning: str = ""
    settings_type: type[AccountSettings] = LittleSettings
    base_url: str = "https://little.example.com"
    schedule: str = "0 * * * *"
    rates: Mapping[str, Rate] = field(default_factory=lambda: {"default": Rate(1000, 60)})
    is_counted: bool = True
    local_sources: Sequence[str] = ()
    expires: Mapping[str, int] = field(default_factory=dict)

    def resources(self, settings: Any) -> Sequence[Resource]:
        return (EVENTS, LIMITS, MEMBERS)

    def authorization(self, secret: str, settings: Any) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {secret}"}

    def expires_ms(self, secret: str) -> int | None:
        return self.expires.get(secret)

    def probe(self, session: Session, settings: LittleSettings) -> Sequence[Member]:
        me = self._told(session.send(Request(path="/me")))["id"]
        if settings.user_id and me != settings.user_id:
            raise Misconfigured("The credential belongs to another user than `user_id` in accounts.toml.")
        return [Member(member_id=me, role="account")]

    def classify(self, answer: Answer) -> Failure | None:
        return None

    def read(self, session: Session, settings: Any, resource: Resource, window: Window) -> Sequence[Answer]:
        if resource.span is None:
            return [session.send(Request(path=f"/{resource.name}"))]
        answers: list[Answer] = []
        while True:
            query = (("from", str(window.from_ms)), ("until", str(window.until_ms)), ("page", str(len(answers))))
            answers.append(session.send(Request(path="/events", query=query)))
            if not self._told(answers[-1])["more"]:
                return answers

    def normalize(self, settings: Any, resource: Resource, window: Window, answers: Sequence[Answer]) -> Normalized:
        told = [row for answer in answers for row in self._told(answer)["rows"]]
        try:
            if resource.name == "limits":
                return Normalized([Limit(name="hard limit", limit_usd=Decimal(row["limit"])) for row in told])
            if resource.name == "members":
                return Normalized([Member(member_id=row["id"], role=row["role"]) for row in told])
            return Normalized([_event(row) for row in told])
        except KeyError:
            sample = ", ".join(f"{name}: {type(value).__name__}" for name, value in told[0].items())
            raise Drifted(f"The rows of {resource.name} have not the shape that is known.", sample=sample) from None

    def _told(self, answer: Answer) -> Any:
        return json.loads(answer.body, parse_float=Decimal)


def _event(row: Mapping[str, Any]) -> VendorEvent:
    return VendorEvent(
        at_ms=row["at"],
        model_raw=row["model"],
        conversation_id=row["conversation"],
        input_tokens=row["tokens"],
        output_tokens=1,
        charged_usd=None if row["charged"] is None else Decimal(row["charged"]),
    )


@dataclass
class Usage:
    """One request as the vendor knows it; shown from `visible_from` on."""

    at: int
    charged: str | None = "0.25"
    model: str = "acorn-1"
    conversation: str = ""
    tokens: int = 100
    visible_from: int = 0


class LittleVendor:
    """The vendor: what it knows of every credential's account.

    Attributes:
        usage: by credential.
        whose: the user's id by credential; who is not in it gets a 401.
        answers: path → reply instead of the usual one, for all.
    """

    def __init__(self, clock: TurnedClock) -> None:
        self.clock = clock
        self.usage: dict[str, list[Usage]] = {}
        self.whose: dict[str, str] = {}
        self.answers: dict[str, Reply] = {}

    def join(self, credential: str, usage: Sequence[Usage] = ()) -> None:
        """Makes an account."""
        self.whose[credential] = (
            f"user of {credential.removeprefix('key-of-')}"  # credentials are taken out of answers
        )
        self.usage[credential] = list(usage)

    def __call__(self, received: Received) -> Reply:
        credential = received.credential
        if received.path in self.answers:
            return self.answers[received.path]
        if credential not in self.whose:
            return Reply(401, {"error": "unauthorized"})
        if received.path == "/me":
            return Reply(200, {"id": self.whose[credential]})
        if received.path == "/limits":
            return Reply(200, {"rows": [{"limit": "100"}]})
        if received.path == "/members":
            return Reply(200, {"rows": [{"id": self.whose[credential], "role": "account"}]})
        asked = received.parameters
        start, end, page = int(asked["from"]), int(asked["until"]), int(asked["page"])
        rows = [
            one
            for one in sorted(self.usage[credential], key=lambda one: one.at)
            if start <= one.at < end and one.visible_from <= self.clock.now_ms()
        ]
        shown = rows[page * PAGE : (page + 1) * PAGE]
        return Reply(200, {"rows": [_row(one) for one in shown], "more": len(rows) > (page + 1) * PAGE})


def _row(one: Usage) -> dict[str, Any]:
    names = ("at", "model", "conversation", "tokens", "charged")
    return {name: getattr(one, name) for name in names}


def some_usage(now_ms: int, days: int, each_day: int = 4) -> list[Usage]:
    """Usage of the days before an instant, the third of every day a twin of the second."""
    return [
        Usage(now_ms - day * DAY_MS - max(1, number - (number == 2)) * HOUR_MS, charged=f"0.{day + 1:02}")
        for day in range(days)
        for number in range(each_day)
    ]


class House:
    """A data directory with accounts of the little vendor, which runs while the house is entered.

    Attributes:
        clock: of the house and of the vendor.
        secrets: by account; a credential is what its account is called until it is replaced.
    """

    def __init__(self, directory: Path, now_ms: int = NOON_MS) -> None:
        self.directory = directory / "data"
        self.clock = TurnedClock(now_ms)
        self.vendor = LittleVendor(self.clock)
        self.server = VendorServer(self.vendor, self.clock)
        self.accounts: dict[str, Account] = {}
        self.environment: dict[str, str] = {"HOME": str(directory)}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.server)
        self.store = self._stack.enter_context(AccountStore(self.directory))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(
        self, name: str, usage: Sequence[Usage] = (), connector: Little | None = None, **settings: Any
    ) -> Account:
        """An account, and the vendor's side of it."""
        credential = f"key-of-{name}"
        variable = f"KEY_{name.upper().replace('-', '_')}"
        self.environment[variable] = credential
        self.vendor.join(credential, usage)
        values = {"secret": f"env:{variable}", "base_url": self.server.url, **settings}
        account = Account(name, connector or Little(), LittleSettings(**values))
        self.accounts[name] = account
        self.configure()
        return account

    def replace_credential(self, name: str, credential: str) -> None:
        """Supplies another credential of the same account."""
        before = self.environment[f"KEY_{name.upper().replace('-', '_')}"]
        self.environment[f"KEY_{name.upper().replace('-', '_')}"] = credential
        self.vendor.whose[credential] = f"user of {name}"
        self.vendor.usage[credential] = self.vendor.usage[before]

    def expire(self, name: str) -> None:
        """Ends an account's session at the vendor."""
        del self.vendor.whose[self.environment[f"KEY_{name.upper().replace('-', '_')}"]]

    def configure(self) -> None:
        """Tells the store of all accounts."""
        self.store.configure([configured(account) for account in self.accounts.values()])

    def settle(self, name: str, **changes: Any) -> None:
        """Changes settings of an account."""
        account = self.accounts[name]
        self.accounts[name] = account._replace(settings=msgspec.structs.replace(account.settings, **changes))
        self.configure()

    def poll(self, name: str, **options: Any) -> Polled:
        """One poll."""
        return poll(self.accounts[name], self.store, self.clock, self.environment, **options)

    def poll_all(self, *, clock: Clock | None = None, is_forced: bool = False) -> dict[str, Polled]:
        """All accounts side by side."""
        results = poll_all(
            list(self.accounts.values()),
            self.directory,
            clock or self.clock,
            self.environment,
            is_forced=is_forced,
        )
        return {polled.account: polled for polled in results}

    def status(self, name: str) -> AccountStatus:
        """How an account is."""
        status = self.store.status(name)
        assert status is not None
        return status

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Asks the database, as others do."""
        with closing(sqlite3.connect(self.store.path)) as connection:
            return connection.execute(query, values).fetchall()

    def known(self, name: str) -> Counter[tuple[int, str, str | None]]:
        """The events of an account as they stand: instant, model and charge, with how often."""
        rows = self.rows(
            "SELECT content FROM versions WHERE account = ? AND kind = 'event' AND content IS NOT NULL AND id IN "
            "(SELECT max(id) FROM versions GROUP BY item)",
            name,
        )
        found: Counter[tuple[int, str, str | None]] = Counter()
        for (content,) in rows:
            event = json.loads(content)
            found[event["at_ms"], event["model_raw"], event.get("charged_usd")] += 1
        return found

    def told(self, name: str) -> Counter[tuple[int, str, str | None]]:
        """What the vendor would say of it now."""
        credential = self.environment[f"KEY_{name.upper().replace('-', '_')}"]
        return Counter(
            (one.at, one.model, one.charged)
            for one in self.vendor.usage[credential]
            if one.visible_from <= self.clock.now_ms()
        )

    def transitions(self, name: str) -> list[str]:
        """The states that an account went through, after the first."""
        return [after for (after,) in self.rows("SELECT after FROM transitions WHERE account = ? ORDER BY id", name)]

    def requests(self, name: str) -> list[Received]:
        """What was asked with the credential of an account."""
        return [one for one in self.server.log if one.credential == f"key-of-{name}"]
