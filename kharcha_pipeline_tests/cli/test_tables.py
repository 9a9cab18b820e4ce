"""Tables: what gives way in a narrow terminal, and what never does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.cli.tables import Column, Table, display_width, printable

WIDE = Table(
    [
        Column("Day"),
        Column("Models", importance=10, narrowest=8),
        Column("Input", right=True, importance=20),
        Column("Output", right=True, importance=20),
        Column("Cost", right=True),
    ],
    [["2026-11-01", ("claude-opus-4-8", "gpt-5.5", "kimi-k3"), "1,234", "567", "12.34"]],
    ["Total", "", "1,234", "567", "12.34"],
)


def test_a_wide_terminal_shows_everything() -> None:
    assert WIDE.lines(120)[2] == "2026-11-01  claude-opus-4-8, gpt-5.5, kimi-k3  1,234     567  12.34"


def test_a_list_shows_as_many_as_fit_and_counts_the_rest() -> None:
    assert WIDE.lines(61)[2] == "2026-11-01  claude-opus-4-8, gpt-5.5 +1  1,234     567  12.34"
    assert WIDE.lines(45)[2] == "2026-11-01  claude-… +2  1,234     567  12.34"


def test_columns_of_least_importance_give_way_first_and_equals_together() -> None:
    assert WIDE.lines(40)[0].split() == ["Day", "Input", "Output", "Cost"]
    assert WIDE.lines(30)[0].split() == ["Day", "Models", "Cost"]
    assert WIDE.lines(20)[0].split() == ["Day", "Cost"]


def test_what_must_stay_stays_whole_even_where_it_does_not_fit() -> None:
    assert WIDE.lines(5)[2] == "2026-11-01  12.34"


def test_a_path_is_cut_at_its_start() -> None:
    table = Table([Column("File", narrowest=8, cut="start")], [["~/.claude/projects/shop.jsonl"]])
    assert table.lines(12)[2] == "…/shop.jsonl"


def test_wide_letters_take_two_columns() -> None:
    table = Table([Column("Project"), Column("Cost", right=True)], [["予算", "1.00"], ["budget", "12.00"]])
    assert table.lines(80)[2:] == ["予算      1.00", "budget   12.00"]
    assert display_width("予算") == 4
    assert display_width("é") == 1


def test_letters_that_steer_a_terminal_are_replaced() -> None:
    assert printable("a\x1b[2Jb\nc\u202e") == "a�[2Jb�c�"


def test_total_stands_under_a_rule() -> None:
    lines = WIDE.lines(20)
    assert lines[1] == lines[3] == "─" * 17
    assert lines[4].startswith("Total")


texts = st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs"]), max_size=30)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, st.lists(texts, max_size=4).map(tuple), st.integers(0, 10**9)), max_size=5),
    width=st.integers(30, 120),
)
def test_no_line_is_wider_than_asked_and_no_number_is_cut(
    rows: list[tuple[str, tuple[str, ...], int]], width: int
) -> None:
    table = Table(
        [
            Column("Name", narrowest=6),
            Column("Several", importance=10, narrowest=8),
            Column("Number", right=True),
        ],
        [[name, several, f"{number:,}"] for name, several, number in rows],
    )
    lines = table.lines(width)
    assert all(display_width(line) <= width for line in lines)
    for (_, _, number), line in zip(rows, lines[2:], strict=True):
        assert line.endswith(f"{number:,}")
