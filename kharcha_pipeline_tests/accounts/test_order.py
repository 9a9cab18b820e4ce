"""However a vendor's time is cut into windows, in whatever order and how often they are read: the same is stored."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as some

from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import ACCOUNT, START, apply, connector, opened, rows, standing

SPAN = 6
"""Milliseconds of the vendor's time, so that several events share one."""

EVENTS = some.lists(
    some.builds(
        VendorEvent,
        at_ms=some.integers(START, START + SPAN - 1),
        model_raw=some.sampled_from(["a", "b"]),
        output_tokens=some.none() | some.integers(0, 2),
        charged_usd=some.none() | some.integers(0, 2).map(lambda cents: Decimal(cents) / 100),
    ),
    max_size=12,
)
WINDOWS = some.lists(
    some.tuples(some.integers(0, SPAN - 1), some.integers(1, SPAN)).map(
        lambda bounds: Window(START + bounds[0], START + min(bounds[0] + bounds[1], SPAN))
    ),
    max_size=6,
)
WHOLE = Window(START, START + SPAN)


def inside(events: Sequence[VendorEvent], window: Window) -> list[VendorEvent]:
    return [event for event in events if window.from_ms <= event.at_ms < window.until_ms]


def everything(store: AccountStore) -> list[tuple[object, ...]]:
    """Items and versions, without the ids, which tell the order in which windows came."""
    query = """
        SELECT versions.group_key, versions.ordinal, versions.at_ms, content, reason, missed, guarded
        FROM versions JOIN items ON items.id = versions.item ORDER BY 1, 2, versions.id
    """
    return rows(store, query)


@settings(max_examples=60)
@given(EVENTS, WINDOWS, some.randoms(use_true_random=False))
def test_the_same_windows_in_any_order_and_any_number_of_times(
    events: list[VendorEvent], windows: list[Window], shuffling: random.Random
) -> None:
    cut = sorted({WHOLE.from_ms, *(bound for window in windows for bound in window), WHOLE.until_ms})
    parts = [Window(*bounds) for bounds in itertools.pairwise(cut)]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        with opened(Path(one)) as store:
            apply(store, events, START + 1, window=WHOLE)
            expected = everything(store)
        with opened(Path(other)) as store:
            todo = [*parts, *windows, *windows]
            shuffling.shuffle(todo)
            for window in todo:
                answer = inside(events, window)
                shuffling.shuffle(answer)
                apply(store, answer, START + shuffling.randrange(1, 4), window=window)
            assert everything(store) == expected
            assert store.covered(ACCOUNT, "events") == [WHOLE]
            assert Counter(map(msgspec.json.encode, standing(store))) == Counter(map(msgspec.json.encode, events))


class Poll(NamedTuple):
    """What one poll saw: the vendor's world as of then, cut to a window."""

    fetched_ms: int
    window: Window
    answer: list[VendorEvent]


@settings(max_examples=60)
@given(
    some.lists(some.tuples(EVENTS, WINDOWS), min_size=1, max_size=4),
    some.randoms(use_true_random=False),
)
def test_what_was_fetched_last_stands_whatever_arrives_last(
    worlds: list[tuple[list[VendorEvent], list[Window]]], shuffling: random.Random
) -> None:
    """A value that becomes unknown is kept only where it was stored before, so here all values are known."""
    polls = []
    known = [
        (
            [
                msgspec.structs.replace(
                    event,
                    output_tokens=event.output_tokens or 0,
                    charged_usd=Decimal(1) + (event.charged_usd or 0),
                )
                for event in events
            ],
            windows,
        )
        for events, windows in worlds
    ]
    for number, (events, windows) in enumerate(known):
        for position, window in enumerate([*windows, WHOLE] if number == 0 else windows):
            polls.append(Poll(START + 100 * (number + 1) + position, window, inside(events, window)))
    arriving = [*polls, *shuffling.sample(polls, len(polls) // 2)]
    shuffling.shuffle(arriving)
    with TemporaryDirectory() as directory, opened(Path(directory)) as store:
        for poll in arriving:
            apply(store, poll.answer, poll.fetched_ms, window=poll.window)
        while store.held():  # as if nobody doubted it
            store.decide(store.held()[0].id, accept=True, now_ms=START, connector=connector(), settings=None)
        shown = Counter(map(msgspec.json.encode, standing(store)))
        missing = "SELECT content FROM items JOIN versions ON versions.id = items.version WHERE missed > 0"
        missed = Counter(content.encode() for (content,) in rows(store, missing) if content)
        for at_ms in range(WHOLE.from_ms, WHOLE.until_ms):
            latest = max(poll for poll in polls if poll.window.from_ms <= at_ms < poll.window.until_ms)
            told = Counter(msgspec.json.encode(item) for item in latest.answer if item.at_ms == at_ms)
            mark = f'"at_ms":{at_ms},'.encode()
            here = Counter({content: count for content, count in shown.items() if mark in content})
            # What the latest answer does not show may still stand, since it was missing too few times.
            assert here - missed <= told
            assert told <= here


@settings(max_examples=60)
@given(some.lists(EVENTS, min_size=1, max_size=4))
def test_an_answer_that_comes_again_changes_nothing_whatever_was_said_before(worlds: list[list[VendorEvent]]) -> None:
    with TemporaryDirectory() as directory, opened(Path(directory)) as store:
        for number, events in enumerate(worlds):
            apply(store, events, START + 100 + number, window=WHOLE)
            for waiting in store.held():
                store.decide(waiting.id, accept=True, now_ms=START, connector=connector(), settings=None)
        again = apply(store, worlds[-1], START + 200, window=WHOLE)
        assert (again.inserted, again.changed, again.returned, again.unchanged) == (0, 0, 0, len(worlds[-1]))
