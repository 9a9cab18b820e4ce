"""What the tests of the transport share: a session of the smallest vendor over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kharcha_pipeline.accounts.connector import Connector, Request
from kharcha_pipeline.accounts.credentials import Secret
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.accounts.transport import Limits, Transport
from kharcha_pipeline_tests.accounts.tiny_connector import TinyConnector
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock

KEY = "key-canary-0123456789abcdef"
GOOD = Reply(200, {"members": [{"id": 1}]})
MEMBERS = Request(path="/members", query=(("page", "2"), ("page", "3")))

SHORT = Limits(attempts=2, connect_seconds=5.0, read_seconds=0.2, answer_seconds=0.6, largest_body=2**20)
"""For servers that hang and drip: these seconds are real ones."""


def good(received: Received) -> Reply:
    """A vendor that is well."""
    return GOOD


@contextmanager
def session(
    base_url: str,
    clock: TurnedClock,
    directory: Path,
    *,
    account: str = "team",
    connector: Connector | None = None,
    key: str = KEY,
    limits: Limits | None = None,
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[Transport]:
    """A session of an account, with a store in a directory."""
    connector = connector or TinyConnector()
    made = connector.settings_type(secret="env:KEY", base_url=base_url, **settings)
    with (
        AccountStore(directory) as store,
        Transport(
            account,
            connector,
            made,
            Secret(key),
            store=store,
            clock=clock,
            environment=environment or {},
            limits=limits or Limits(),
        ) as transport,
    ):
        yield transport
