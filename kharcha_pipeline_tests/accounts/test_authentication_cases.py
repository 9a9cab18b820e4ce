"""What refusals mean: an expired session only on evidence, and then no request at all until there is another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline_tests.accounts.little_vendor import House, Little, Usage, some_usage
from kharcha_pipeline_tests.accounts.vendor_server import (
    NOON_MS,
    Fault,
    Received,
    Reply,
    VendorServer,
    page,
    redirect,
)

LOGIN_PAGE = "<!doctype html><html><title>Sign in</title><form action='/login'><input type='password'></form></html>"
APP_SHELL = (
    "<!doctype html><html><title>Little</title><div id='root'></div><script src='/_next/app.js'></script></html>"
)
UNAUTHORIZED = Reply(401, {"error": "unauthorized"})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        house.add("seat", some_usage(NOON_MS, 10))
        house.add("other", some_usage(NOON_MS, 2))
        yield house


def alerts(house: House) -> list[str]:
    return [notice.sentence for notice in house.store.pending_notices()]


def test_401_on_the_first_request(house: House) -> None:
    house.expire("seat")
    polled = house.poll_all()
    assert house.status("seat").state == "session_expired"
    assert len(house.requests("seat")) == 1
    assert "login seat" in polled["seat"].sentence
    assert len(alerts(house)) == 1
    assert polled["other"].outcome == "polled"
    assert house.known("other") == house.told("other")


def test_401_on_the_first_request_of_a_later_cycle_is_confirmed_by_one_probe(house: House) -> None:
    house.poll("seat")
    house.expire("seat")
    asked = len(house.requests("seat"))
    house.poll("seat", is_forced=True)
    assert house.status("seat").state == "session_expired"
    assert [one.path for one in house.requests("seat")[asked:]] == ["/events", "/me"]


def test_401_in_the_middle_of_paging(house: House) -> None:
    late = Usage(NOON_MS - HOUR_MS, model="late")
    house.vendor.usage["key-of-seat"] += [Usage(NOON_MS - HOUR_MS - number) for number in range(9)]
    house.poll("seat")
    before, covered = house.known("seat"), house.store.covered("seat", "events")
    house.vendor.usage["key-of-seat"].append(late)
    house.clock.advance(60)

    def is_third_page(received: Received) -> bool:
        return received.path == "/events" and received.parameters["page"] == "2"

    house.server.faults += [
        Fault(is_third_page, UNAUTHORIZED, sticky=True),
        Fault("/me", UNAUTHORIZED, sticky=True),
    ]
    asked = len(house.requests("seat"))
    house.poll("seat", is_forced=True)
    pages = [one.parameters.get("page", one.path) for one in house.requests("seat")[asked:]]
    assert pages == ["0", "1", "2", "2", "/me", "/me"]  # the same page once more, then one probe, tried as often
    assert house.status("seat").state == "session_expired"
    assert house.known("seat") == before
    assert house.store.covered("seat", "events") == covered


def test_401_in_the_middle_of_paging_that_passes_is_borne(house: House) -> None:
    house.server.faults.append(Fault("/events", UNAUTHORIZED, nth=5))
    assert house.poll("seat").outcome == "polled"
    assert house.known("seat") == house.told("seat")


@pytest.mark.parametrize("status", [302, 303, 307, 308])
@pytest.mark.parametrize("where", ["/login?next=/events", "https://login.example.com/", "other host"])
def test_a_redirect_to_a_login_path_or_login_host(house: House, status: int, where: str) -> None:
    with VendorServer(lambda received: Reply(200, {"rows": [], "more": False}), house.clock) as elsewhere:
        target = f"{elsewhere.url}/signin" if where == "other host" else where
        house.vendor.answers["/events"] = redirect(target, status)
        house.poll("seat")
        assert house.status("seat").state == "session_expired"
        assert elsewhere.log == []
    assert {one.path for one in house.requests("seat")} == {"/me", "/events"}
    assert len(alerts(house)) == 1


def test_308_from_www_to_the_bare_host(house: House) -> None:
    house.vendor.answers["/me"] = redirect(f"{house.server.url.replace('://', '://www.')}/me", 308)
    house.poll("seat")
    assert house.status("seat").state == "needs_attention"
    assert "base_url" in house.status("seat").sentence


def test_200_with_a_login_page(house: House) -> None:
    house.vendor.answers["/events"] = page(LOGIN_PAGE)
    house.poll("seat")
    assert house.status("seat").state == "session_expired"


def test_200_with_another_page_is_taken_for_passing(house: House) -> None:
    house.vendor.answers["/events"] = page("<html><title>Maintenance</title><p>Back soon.</p></html>")
    house.poll("seat")
    assert house.status("seat").state == "degraded"
    house.vendor.answers.clear()
    assert house.poll("seat", is_forced=True).outcome == "polled"


def test_200_with_an_app_shell(house: House) -> None:
    house.vendor.answers["/limits"] = page(APP_SHELL)
    house.poll("seat")
    assert house.status("seat").state == "needs_attention"
    assert "moved" in house.status("seat").sentence
    assert house.known("seat") == house.told("seat")


def test_200_with_zeros_for_a_wrong_user_id(house: House) -> None:
    house.settle("seat", user_id="user of somebody else")
    house.poll("seat")
    assert house.status("seat").state == "needs_attention"
    assert "user_id" in house.status("seat").sentence
    assert {one.path for one in house.requests("seat")} == {"/me"}
    house.settle("seat", user_id="user of seat")
    assert house.poll("seat", is_forced=True).outcome == "polled"


def test_a_credential_of_somebody_else_is_not_taken_for_the_same_account(house: House) -> None:
    house.poll("seat")
    before = house.known("seat")
    house.vendor.join("key-of-ben", [Usage(NOON_MS - 60_000, charged="9")])
    house.environment["KEY_SEAT"] = "key-of-ben"
    house.poll("seat")
    assert house.status("seat").state == "needs_attention"
    assert "another account" in house.status("seat").sentence
    assert house.known("seat") == before
    assert len(alerts(house)) == 1
    house.environment["KEY_SEAT"] = "key-of-seat"
    assert house.poll("seat").outcome == "polled"
    assert house.known("seat") == house.told("seat") == before


def test_403_invalid_origin(house: House) -> None:
    house.vendor.answers["/events"] = Reply(403, {"error": "Invalid origin for state-changing request"})
    house.poll("seat")
    assert house.status("seat").state == "needs_attention"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_plan_or_permission_or_a_missing_scope_of_one_endpoint(house: House, status: int) -> None:
    house.vendor.answers["/limits"] = Reply(status, {"message": "admins only"})
    house.poll("seat")
    assert set(house.status("seat").unavailable) == {"limits"}
    assert house.status("seat").state == "needs_attention"
    assert house.known("seat") == house.told("seat")
    asked = len(house.server.requests("/limits"))
    house.poll("seat", is_forced=True)
    assert len(house.server.requests("/limits")) == asked
    assert len(alerts(house)) == 1


def test_credential_replaced(house: House) -> None:
    house.poll("seat")
    house.expire("seat")
    house.poll("seat", is_forced=True)
    house.clock.advance(40 * DAY_MS / 1000)
    house.vendor.usage["key-of-seat"] += [Usage(NOON_MS + day * DAY_MS) for day in range(1, 40)]
    house.replace_credential("seat", "another-key")
    polled = house.poll("seat")
    assert polled.outcome == "polled"
    assert polled.applied["events"].inserted == 39
    assert house.known("seat") == house.told("seat")
    (covered,) = house.store.covered("seat", "events")
    assert covered.until_ms == house.clock.now_ms()
    assert house.transitions("seat") == ["session_expired", "active"]


def test_a_replaced_credential_that_is_no_good_expires_again_with_another_alert(house: House) -> None:
    house.expire("seat")
    house.poll("seat")
    house.environment["KEY_SEAT"] = "no-good"
    house.poll("seat")
    house.poll("seat", is_forced=True)
    assert house.transitions("seat") == ["session_expired", "active", "session_expired"]
    assert len(alerts(house)) == 2


def test_a_replaced_credential_is_taken_over_also_by_a_poll_that_was_killed_on_the_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.expire("seat")
    house.poll("seat")
    house.replace_credential("seat", "another-key")

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "set_credential", killed)
        with pytest.raises(KeyboardInterrupt):
            house.poll("seat")
    assert house.poll("seat").outcome == "polled"
    assert house.known("seat") == house.told("seat")


def test_credential_expires_in_3_days(house: House) -> None:
    seat = house.accounts["seat"]
    house.accounts["seat"] = seat._replace(connector=Little(expires={"key-of-seat": NOON_MS + 5 * DAY_MS}))
    for _ in range(4):
        house.poll("seat", is_forced=True)
        house.clock.advance(DAY_MS / 1000)
    (warning,) = alerts(house)
    assert "within three days" in warning
    assert house.status("seat").credential_expires == NOON_MS + 5 * DAY_MS
    assert house.status("seat").state == "active"


def test_expired_account_for_weeks(house: House) -> None:
    house.poll("seat")
    house.expire("seat")
    house.poll("seat", is_forced=True)
    asked = len(house.server.log)
    for _ in range(21 * 4):
        house.clock.advance(6 * HOUR_MS / 1000)
        assert house.poll("seat", is_forced=True).outcome == "expired"
    assert len(house.server.log) == asked


def test_two_expired_polls(house: House) -> None:
    house.expire("seat")
    for _ in range(2):
        house.poll("seat", is_forced=True)
    assert len(alerts(house)) == 1
    assert house.transitions("seat") == ["session_expired"]


def test_a_person_can_have_an_expired_account_polled_again(house: House) -> None:
    house.expire("seat")
    house.poll("seat")
    house.vendor.join("key-of-seat", some_usage(NOON_MS, 2))
    house.store.move("seat", "active", "", house.clock.now_ms())
    assert house.poll("seat", is_forced=True).outcome == "polled"
