"""Which of OpenCode's versions and copies of a response is counted."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.records import SettledRecord
from kharcha_pipeline.sources.opencode import OpenCodeTokens, OpenCodeUsage, opencode
from kharcha_pipeline_tests.sources.opencode_logs import CREATED

ORIGINAL = OpenCodeUsage(
    store="v1",
    message_id="msg_1",
    created=CREATED,
    completed=CREATED + 900,
    session_id="ses_parent",
    session_created=CREATED - 1000,
    session_version="1.4.0",
    provider="anthropic",
    model="claude-sonnet-4-5",
    tokens=OpenCodeTokens(input=100, output=20),
    cost=Decimal("0.01"),
)


def settled(*records: OpenCodeUsage) -> list[SettledRecord]:
    families = {record.family for record in records}
    assert len(families) == 1
    return sorted(opencode.settle(families.pop(), records, {}), key=lambda record: record.identity)


def changed(record: OpenCodeUsage, **fields: object) -> OpenCodeUsage:
    return msgspec.structs.replace(record, **fields)


def copy(number: int = 1, **fields: object) -> OpenCodeUsage:
    """What a fork makes of the original: new ids, in a session that is younger than the message."""
    own = {
        "message_id": f"msg_9{number}",
        "session_id": f"ses_fork{number}",
        "session_created": CREATED + 5000 * number,
    }
    return changed(ORIGINAL, **(own | fields))


def test_nine_forks_are_counted_once_under_the_oldest_session() -> None:
    (record,) = settled(*(copy(number) for number in range(1, 10)), ORIGINAL)
    assert (record.identity, record.session_id) == (f"msg_1@m{CREATED}", "ses_parent")


def test_forks_of_message_files_are_recognized_without_session_files() -> None:
    unknown = {"store": "json", "session_created": None}
    (record,) = settled(copy(**unknown), changed(ORIGINAL, **unknown))
    assert record.session_id == "ses_parent"


def test_a_fork_whose_parent_is_gone_is_counted_under_the_oldest_fork() -> None:
    (record,) = settled(copy(2), copy(1))
    assert record.session_id == "ses_fork1"


def test_forks_are_recognized_after_the_migration_gave_each_another_time_of_completion() -> None:
    migrated = [changed(ORIGINAL, store="v2", completed=CREATED + 901)]
    migrated += [copy(number, store="v2", completed=CREATED + 7000 * number) for number in (1, 2)]
    (record,) = settled(*migrated)
    assert record.session_id == "ses_parent"
    (record,) = settled(*migrated[1:])
    assert record.session_id == "ses_fork1"


def test_a_copy_taken_while_the_message_was_running_is_not_counted() -> None:
    (record,) = settled(copy(completed=None, tokens=OpenCodeTokens(input=7)), ORIGINAL)
    assert record.input_tokens == 100


def test_a_fork_of_2_0_is_recognized_by_its_place_in_the_session() -> None:
    original = changed(ORIGINAL, store="v2", sequence=4, tokens=OpenCodeTokens(input=150))
    fork = copy(store="v2", sequence=4, session_fork="ses_parent")
    fork_of_fork = copy(2, store="v2", sequence=4, session_fork="ses_fork1", tokens=OpenCodeTokens(input=3))
    (record,) = settled(fork_of_fork, fork, original)
    assert record.input_tokens == 150


def test_an_equal_place_after_the_fork_is_no_copy() -> None:
    """Parent and fork go on to count from the same number."""
    original = changed(ORIGINAL, store="v2", sequence=4)
    own = copy(
        store="v2",
        sequence=4,
        session_fork="ses_parent",
        session_created=CREATED - 10,
        tokens=OpenCodeTokens(input=3),
    )
    assert len(settled(own, original)) == 2


def test_two_agents_that_begin_in_the_same_millisecond_are_two() -> None:
    other = changed(
        ORIGINAL, message_id="msg_2", session_id="ses_other", session_created=CREATED - 5, completed=CREATED + 950
    )
    assert len(settled(ORIGINAL, other)) == 2
    (kept, _) = settled(ORIGINAL, other, copy())
    assert kept.session_id == "ses_parent"
    assert len(settled(ORIGINAL, other, copy())) == 2


def test_a_better_version_keeps_the_identity() -> None:
    running = changed(ORIGINAL, completed=None, tokens=OpenCodeTokens(input=1), updated=CREATED + 5)
    migrated = changed(ORIGINAL, store="v2", completed=CREATED + 901)
    identities = {settled(*records)[0].identity for records in ([running], [running, ORIGINAL], [ORIGINAL, migrated])}
    assert len(identities) == 1


def test_a_label_of_the_account_is_not_lost() -> None:
    (record,) = settled(ORIGINAL, changed(ORIGINAL, store="v2"), changed(ORIGINAL, store="json", account="work"))
    assert record.account == "work"


def test_a_message_known_twice_by_session_and_not_is_one() -> None:
    (record,) = settled(ORIGINAL, changed(ORIGINAL, session_created=None, session_version=""))
    assert record == settled(ORIGINAL)[0]


records = st.builds(
    OpenCodeUsage,
    store=st.sampled_from(["v1", "v2", "json"]),
    message_id=st.sampled_from(["msg_1", "msg_2", "msg_3", "msg_4"]),
    created=st.just(CREATED),
    completed=st.sampled_from([None, CREATED + 900, CREATED + 950]),
    updated=st.sampled_from([0, CREATED + 1]),
    session_id=st.sampled_from(["ses_1", "ses_2", "ses_3"]),
    session_created=st.sampled_from([None, CREATED - 1000, CREATED + 1000, CREATED + 2000]),
    session_version=st.sampled_from(["", "1.1.0", "2.0.0"]),
    session_fork=st.sampled_from(["", "ses_1"]),
    sequence=st.sampled_from([None, 1, 2]),
    provider=st.just("openai"),
    model=st.sampled_from(["gpt-5", "gemini-3-pro"]),
    tokens=st.builds(
        OpenCodeTokens,
        input=st.sampled_from([1, 100]),
        output=st.just(10),
        reasoning=st.sampled_from([0, 5, 20]),
        total=st.sampled_from([None, 110, 115]),
    ),
    cost=st.sampled_from([None, Decimal("0.1"), Decimal("0.10"), Decimal("0.2")]),
    steps=st.sampled_from([0, 1, 2]),
    step_tokens=st.builds(OpenCodeTokens, input=st.sampled_from([1, 200]), output=st.just(10)),
    cwd=st.sampled_from(["", "/a", "/b"]),
    account=st.sampled_from(["", "work"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(records, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_outcome_depends_on_the_set_of_records_alone(said: list[OpenCodeUsage], random: object) -> None:
    again = [*said, *said[:3]]
    random.shuffle(again)  # type: ignore[attr-defined]
    outcome = settled(*said)
    assert settled(*again) == outcome
    assert len({record.identity for record in outcome}) == len(outcome) >= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(records, min_size=1, max_size=4), st.integers(1, 4))
def test_copies_that_forks_make_change_nothing(said: list[OpenCodeUsage], forks: int) -> None:
    said = [changed(record, session_created=CREATED - 1000, session_fork="") for record in said]
    best = settled(*said)
    copies = [
        changed(
            record,
            message_id=f"msg_copy_{fork}_{record.message_id}",
            session_id=f"ses_copy_{fork}",
            session_created=CREATED + 1 + fork,
        )
        for fork in range(forks)
        for record in said
        if record.completed
    ]
    assert settled(*said, *copies) == best
