"""Items made again from the answers that were kept, as after a change of a vendor's module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import Answer, Connector, Normalized, Resource, Window
from kharcha_pipeline.accounts.failures import Drifted
from kharcha_pipeline.accounts.items import Limit, VendorItem
from kharcha_pipeline.accounts.store import Applied
from kharcha_pipeline_tests.accounts.storing import (
    ACCOUNT,
    DAY,
    EVENTS,
    LIMITS,
    START,
    apply,
    connector,
    event,
    opened,
    rows,
    snapshot,
    standing,
    versions,
)

FIRST, SECOND, THIRD, FOURTH = (START + DAY_MS + number * HOUR_MS for number in range(4))


def changing(change: Callable[[VendorItem], VendorItem | None]) -> Connector:
    """A module that understands each item in another way, or no longer as one."""

    def normalize(settings: Any, resource: Resource, window: Window, answers: Sequence[Answer]) -> Normalized:
        said = connector().normalize(settings, resource, window, answers).items
        return Normalized([changed for item in said if (changed := change(item)) is not None])

    return connector(normalize=normalize)


def test_the_same_module_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event()], FIRST)
        apply(store, [event(), event(charged="0.2")], SECOND)
        apply(store, [event(at_ms=DAY.until_ms)], THIRD, window=Window(DAY.until_ms, DAY.until_ms + DAY_MS))
        snapshot(store, LIMITS, [Limit(name="hard limit")], FIRST)
        before = versions(store)
        assert store.normalize_again(ACCOUNT, connector(), None, now_ms=FOURTH) == Applied(unchanged=4)
        assert versions(store) == before


def test_a_field_that_is_understood_now_is_there(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        module = changing(lambda item: msgspec.structs.replace(item, kind="included"))
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(changed=1)
        assert standing(store) == [event(kind="included")]
        assert versions(store)[-1][2] == "normalized again"
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(unchanged=1)


def test_what_was_taken_for_an_item_and_is_none_goes_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event(model_raw="other")], FIRST)
        module = changing(lambda item: None if item == event() else item)
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(unchanged=1, vanished=1)


def test_an_item_of_another_group_replaces_the_one_before(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        module = changing(lambda item: msgspec.structs.replace(item, conversation_id="c"))
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(inserted=1, vanished=1)
        assert standing(store) == [event(conversation_id="c")]
        status = store.status(ACCOUNT)
        assert status is not None
        assert status.events == 1


def test_what_the_newest_answer_does_not_show_is_left_to_the_next_polls(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event(model_raw="other")], FIRST)
        apply(store, [event()], SECOND)
        assert store.normalize_again(ACCOUNT, connector(), None, now_ms=FOURTH) == Applied(unchanged=1)
        assert len(standing(store)) == 2


def test_each_instant_is_taken_from_its_newest_answer(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        noon = START + 12 * HOUR_MS
        early, late = event(at_ms=START), event(at_ms=noon)
        apply(store, [early, late], FIRST)
        newer = event(at_ms=noon, charged="0.7")
        apply(store, [newer], SECOND, window=Window(noon, DAY.until_ms + DAY_MS))
        module = changing(lambda item: msgspec.structs.replace(item, kind="included"))
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(changed=2)
        assert standing(store) == [
            msgspec.structs.replace(early, kind="included"),
            msgspec.structs.replace(newer, kind="included"),
        ]


def test_readings_that_wait_or_came_too_late_are_not_used(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        items = [event(at_ms=START + number) for number in range(5)]
        apply(store, items, SECOND)
        apply(store, [event(at_ms=START, charged="9")], FIRST)
        apply(store, [event(at_ms=START + number, charged="0") for number in range(5)], THIRD)
        assert len(store.held()) == 1
        assert store.normalize_again(ACCOUNT, connector(), None, now_ms=FOURTH) == Applied(unchanged=5)


def test_an_answer_that_says_nothing_does_not_hide_the_one_before(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        apply(store, [], SECOND, is_suspicious=True)
        module = changing(lambda item: msgspec.structs.replace(item, kind="included"))
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(changed=1)


def test_a_value_may_become_unknown_when_it_was_misunderstood(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(charged="0")], FIRST)
        module = changing(lambda item: msgspec.structs.replace(item, charged_usd=None))
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(changed=1)
        assert standing(store) == [event(charged=None)]


def test_a_value_that_an_older_answer_told_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(charged="0.1")], FIRST)
        apply(store, [event(charged=None)], SECOND)
        assert store.normalize_again(ACCOUNT, connector(), None, now_ms=FOURTH) == Applied(unchanged=1)
        assert standing(store) == [event(charged="0.1")]


def test_another_connector_leaves_the_items_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        other = connector(name="other", normalize=lambda *_: Normalized([]))
        assert store.normalize_again(ACCOUNT, other, None, now_ms=FOURTH) == Applied()


def test_an_answer_that_is_not_understood_stops_it_and_it_can_be_done_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        following = Window(DAY.until_ms, DAY.until_ms + DAY_MS)
        apply(store, [event()], FIRST)
        apply(store, [event(at_ms=DAY.until_ms)], SECOND, window=following)

        def normalize(settings: Any, resource: Resource, window: Window, answers: Sequence[Answer]) -> Normalized:
            if window == DAY:
                raise Drifted("The answer is not of the shape that is known.")
            return Normalized([event(at_ms=DAY.until_ms, kind="included")])

        with pytest.raises(Drifted):
            store.normalize_again(ACCOUNT, connector(normalize=normalize), None, now_ms=FOURTH)
        module = changing(lambda item: msgspec.structs.replace(item, kind="included"))
        assert store.normalize_again(ACCOUNT, module, None, now_ms=FOURTH) == Applied(changed=1, unchanged=1)


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    seen: list[Answer] = []

    def normalize(settings: Any, resource: Resource, window: Window, answers: Sequence[Answer]) -> Normalized:
        seen.extend(answers)
        return connector().normalize(settings, resource, window, answers)

    with opened(tmp_path) as store:
        apply(store, [event(charged="0.10"), event(tokens=5)], FIRST, resource=EVENTS)
        store.normalize_again(ACCOUNT, connector(normalize=normalize), None, now_ms=FOURTH)
        (answer,) = seen
        assert (answer.status, answer.fetched_ms, answer.request.query) == (200, FIRST, (("page", "1"),))
        assert msgspec.json.decode(answer.body, type=list[VendorItem]) == [event(charged="0.10"), event(tokens=5)]
        assert rows(store, "SELECT content FROM versions ORDER BY id")[1][0].count(str(Decimal("0.10"))) == 1
