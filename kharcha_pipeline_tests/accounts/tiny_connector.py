"""The smallest vendor there can be: for tests of what all vendors share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kharcha_pipeline.accounts.connector import (
    AccountSettings,
    Answer,
    Connector,
    Normalized,
    Rate,
    Request,
    Resource,
    Session,
    Window,
)
from kharcha_pipeline.accounts.failures import Failure
from kharcha_pipeline.accounts.items import Member


class TinySettings(AccountSettings, frozen=True, kw_only=True, tag="tiny"):
    """An account of the smallest vendor.

    Attributes:
        organization: its name
            there.
    """

    organization: str = ""

    def __post_init__(self) -> None:
        if self.organization == "forbidden":
            raise ValueError("The organization is forbidden.")


class CookieSettings(AccountSettings, frozen=True, kw_only=True, tag="tiny-cookie"):
    """The same by cookie."""


class TinyConnector:
    """Reads members, in one request."""

    name = "tiny"
    title = "Tiny"
    vendor = "tiny"
    source = "tiny"
    warning = ""
    base_url = "https://api.tiny.example"
    schedule = "20 * * * *"
    is_counted = False
    local_sources: Sequence[str] = ()
    settings_type: type[AccountSettings] = TinySettings

    def __init__(
        self, rates: Mapping[str, Rate] | None = None, classify: Callable[[Answer], Failure | None] | None = None
    ) -> None:
        self.rates = rates or {"default": Rate(1000, 60)}
        self._classify = classify

    def resources(self, settings: Any) -> Sequence[Resource]:
        return (Resource("members", "member"),)

    def authorization(self, secret: str, settings: Any) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {secret}", "X-Tiny-Version": "1"}

    def expires_ms(self, secret: str) -> int | None:
        return None

    def probe(self, session: Session, settings: Any) -> Sequence[Member]:
        session.send(Request(path="/me"))
        return ()

    def classify(self, answer: Answer) -> Failure | None:
        return self._classify(answer) if self._classify else None

    def read(self, session: Session, settings: Any, resource: Resource, window: Window) -> Sequence[Answer]:
        return (session.send(Request(path="/members")),)

    def normalize(self, settings: Any, resource: Resource, window: Window, answers: Sequence[Answer]) -> Normalized:
        return Normalized(())


class CookieConnector(TinyConnector):
    """The same by cookie."""

    name = "tiny-cookie"
    settings_type = CookieSettings

    def authorization(self, secret: str, settings: Any) -> Mapping[str, str]:
        return {"Cookie": f"TinySession={secret}"}


_typed: tuple[Connector, ...] = (TinyConnector(), CookieConnector())
