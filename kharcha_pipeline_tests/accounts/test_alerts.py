"""What has to be known is told once, to whoever takes it; an alert that fails is no failure of a poll."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.alerts import tell
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.little_vendor import House, some_usage
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Received, Reply, TurnedClock, VendorServer


class Receiver:
    """Somebody who is told.

    Attributes:
        server: where.
        status: what they answer.
    """

    def __init__(self, clock: TurnedClock) -> None:
        self.status = 200
        self.server = VendorServer(lambda received: Reply(self.status, {}), clock)

    @property
    def address(self) -> str:
        """As apprise understands it."""
        return f"{self.server.url.replace('http://', 'json://somebody:alert-password@')}/inbox"

    @property
    def messages(self) -> list[str]:
        """What came in."""
        return [_message(received) for received in self.server.log]


def _message(received: Received) -> str:
    text = received.json["message"]
    assert isinstance(text, str)
    return text


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        house.add("seat", some_usage(NOON_MS, 2))
        house.add("other", some_usage(NOON_MS, 2))
        yield house


@pytest.fixture
def receiver(house: House) -> Iterator[Receiver]:
    receiver = Receiver(house.clock)
    with receiver.server:
        house.environment["ALERT_URL"] = receiver.address
        yield receiver


def told(house: House, *references: str) -> list[str]:
    """Tells what is pending; returns what went wrong."""
    return tell(house.store, references or ("env:ALERT_URL",), house.clock, house.environment, house.directory)


def test_one_alert_per_transition(house: House, receiver: Receiver) -> None:
    house.poll_all()
    assert told(house) == []
    assert receiver.messages == []
    house.expire("seat")
    for _ in range(3):
        house.poll_all(is_forced=True)
        assert told(house) == []
    (message,) = receiver.messages
    assert "kharcha accounts login seat" in message
    assert "account seat" in receiver.server.log[0].json["title"]
    house.replace_credential("seat", "another-key")
    house.vendor.whose.setdefault("another-key", "user of seat")
    house.poll_all(is_forced=True)
    told(house)
    assert len(receiver.messages) == 1  # that all is well again is no alert
    house.expire("seat")
    house.poll_all(is_forced=True)
    told(house)
    assert len(receiver.messages) == 2


def test_an_alert_that_cannot_be_delivered_is_kept_and_told_later(house: House, receiver: Receiver) -> None:
    house.expire("seat")
    house.poll("seat")
    receiver.status = 500
    (problem,) = told(house)
    assert "address 1" in problem
    assert "alert-password" not in problem
    assert len(house.store.pending_notices()) == 1
    receiver.status = 200
    before = len(receiver.messages)
    assert told(house) == []
    assert len(receiver.messages) == before + 1
    assert house.store.pending_notices() == []


def test_an_address_that_is_down_does_not_have_the_others_told_again(house: House, receiver: Receiver) -> None:
    house.expire("seat")
    house.poll("seat")
    house.environment["DOWN"] = "json://127.0.0.1:1/inbox"
    for _ in range(3):
        told(house, "env:DOWN", "env:ALERT_URL")
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("value", ["", "no-such-scheme://somewhere", "json://"])
def test_an_address_that_cannot_be_used_is_a_sentence_and_keeps_the_alert(house: House, value: str) -> None:
    house.expire("seat")
    house.poll("seat")
    house.environment["ALERT_URL"] = value
    (problem,) = told(house)
    assert "address 1 of accounts.toml" in problem
    assert not value or value not in problem
    assert len(house.store.pending_notices()) == 1


def test_without_any_address_nobody_is_told_and_nothing_is_kept_for_later(house: House, receiver: Receiver) -> None:
    house.expire("seat")
    house.poll("seat")
    assert tell(house.store, (), house.clock, house.environment, house.directory) == []
    assert told(house) == []
    assert receiver.messages == []


def test_two_processes_do_not_tell_the_same_twice(house: House, receiver: Receiver) -> None:
    house.expire("seat")
    house.poll("seat")
    with AccountStore(house.directory) as other:
        assert other.pending_notices() == house.store.pending_notices()
        assert told(house) == []
        assert tell(other, ("env:ALERT_URL",), house.clock, house.environment, house.directory) == []
    assert len(receiver.messages) == 1


def test_addresses_stand_in_no_log(
    house: House, receiver: Receiver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    house.expire("seat")
    house.poll("seat")
    receiver.status = 500
    told(house)
    house.environment["DOWN"] = "json://somebody:alert-password@127.0.0.1:1/inbox"
    told(house, "env:DOWN")
    captured = capfd.readouterr()
    assert "alert-password" not in caplog.text + captured.out + captured.err
