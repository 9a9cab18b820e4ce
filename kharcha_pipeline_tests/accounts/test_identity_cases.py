"""Cursor's events have no id: the named cases of what is the same event, polled over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline_tests.accounts.cursor_team import YESTERDAY, Team, charges, only
from kharcha_pipeline_tests.accounts.cursor_vendor import Usage
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS

LATER = NOON_MS + 3 * HOUR_MS // 2
"""Between the first two polls."""


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with Team(tmp_path) as team:
        yield team


def ordinals(team: Team) -> list[int]:
    return [ordinal for (ordinal,) in team.rows("SELECT ordinal FROM items WHERE kind = 'event' ORDER BY id")]


def test_same_ms_and_model_in_different_conversations(team: Team) -> None:
    team.happened(conversationId="one", chargedCents=3)
    team.happened(conversationId="two", chargedCents=4)
    assert only(team.events(), inserted=2)
    assert charges(team.standing()) == ["0.03", "0.04"]
    assert only(team.events())


def test_two_models_in_one_ms(team: Team) -> None:
    team.happened(model="example-large")
    team.happened(model="example-small")
    assert only(team.events(), inserted=2)
    assert only(team.events())


def test_identical_twins(team: Team) -> None:
    team.happened()
    team.happened()
    assert only(team.events(), inserted=2)
    for _ in range(4):
        assert only(team.events())
    assert ordinals(team) == [0, 1]
    assert charges(team.standing()) == ["0.06625", "0.06625"]


def test_identical_twins_on_two_pages(team: Team) -> None:
    team.vendor.largest_page = 1
    for _ in range(3):
        team.happened()
    assert only(team.events(), inserted=3)
    assert only(team.events())


def test_twins_delivered_in_other_order(team: Team) -> None:
    team.happened(chargedCents=3)
    team.happened(chargedCents=4)
    assert only(team.events(), inserted=2)
    team.vendor.events.reverse()
    assert only(team.events())
    assert team.reasons() == ["first seen"] * 2


def test_one_of_two_twins_changes_its_cost(team: Team) -> None:
    team.happened()
    team.happened().revisions.append((LATER, "chargedCents", 9))
    assert only(team.events(), inserted=2)
    assert only(team.events(), changed=1)
    assert charges(team.standing()) == ["0.06625", "0.09"]
    assert team.reasons() == ["first seen", "first seen", "revised"]
    team.vendor.events.reverse()
    assert only(team.events())


def test_a_third_twin_arrives_later(team: Team) -> None:
    team.happened()
    team.happened()
    team.happened(visible_from=LATER)
    assert only(team.events(), inserted=2)
    assert only(team.events(), inserted=1)
    assert ordinals(team) == [0, 1, 2]
    assert team.reasons() == ["first seen"] * 3


def test_same_event_on_two_accounts(team: Team) -> None:
    team.add("own")
    usage = team.happened()
    usage.revisions.append((LATER, "chargedCents", 9))
    assert only(team.events("team"), inserted=1)
    assert only(team.events("own"), inserted=1)  # after the revision
    found = "SELECT account, count(*) FROM versions WHERE kind = 'event' GROUP BY 1 ORDER BY 1"
    assert team.rows(found) == [("own", 1), ("team", 1)]
    assert only(team.events("team"), changed=1)
    assert only(team.events("own"))
    assert team.rows(found) == [("own", 1), ("team", 2)]


def test_model_renamed_for_display(team: Team) -> None:
    """The raw name is the key: a name for people is made of it elsewhere, and never changes what is stored."""
    team.happened(model="example-large-20261101")
    assert only(team.events(), inserted=1)
    (event,) = team.standing()
    assert event.model_raw == "example-large-20261101"
    assert team.rows("SELECT group_key FROM items WHERE kind = 'event'")[0][0].count("example-large-20261101") == 1


def test_email_becomes_null_on_old_events(team: Team) -> None:
    usage = team.happened()
    usage.revisions.append((LATER, "userEmail", None))
    assert only(team.events(), inserted=1)
    assert only(team.events(), changed=1)
    (event,) = team.standing()
    assert (event.user, event.charged_usd) == ("", Decimal("0.06625"))
    assert ordinals(team) == [0]


def test_emails_of_a_whole_team_become_null(team: Team) -> None:
    for number in range(9):
        team.happened(YESTERDAY - 20 * DAY_MS + number).revisions.append((LATER, "userEmail", None))
    assert only(team.events(), inserted=9)
    applied = team.events(after_hours=25)
    assert only(applied, changed=9)
    assert not applied.held


def test_two_rows_of_one_key_in_a_single_insert(team: Team) -> None:
    """All of one key are numbered before they are written: none replaces another, none is refused."""
    for cents in (1, 1, 2, 2, 2):
        team.happened(chargedCents=cents)
    assert only(team.events(), inserted=5)
    assert ordinals(team) == [0, 1, 2, 3, 4]
    assert charges(team.standing()) == ["0.01", "0.01", "0.02", "0.02", "0.02"]


def test_event_exactly_on_the_boundary_of_two_windows(team: Team) -> None:
    midnight = NOON_MS // DAY_MS * DAY_MS
    for at_ms in (midnight - 1, midnight, midnight + 1):
        team.happened(at_ms)
    assert only(team.events(), inserted=3)
    assert only(team.events())


def test_event_moves_to_the_next_page_because_newer_ones_arrive(team: Team) -> None:
    team.vendor.largest_page = 2
    for number in range(4):
        team.happened(YESTERDAY + number)

    def more(page: int) -> None:
        team.vendor.after_page = lambda _: None
        team.vendor.events.append(Usage(team.vendor.events[0].shown | {"timestamp": str(YESTERDAY + 9)}))

    team.vendor.after_page = more
    assert only(team.events(), inserted=5)
    assert ordinals(team) == [0] * 5
    assert only(team.events())
